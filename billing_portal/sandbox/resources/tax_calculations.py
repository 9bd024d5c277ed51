"""Tax calculations: what a sale would be taxed, by the same table that invoices use."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import currencies, generic
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.registry import operation, resource
from billing_portal.sandbox.rendering import as_list, page, render
from billing_portal.sandbox.store import Object

from . import taxes

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox


def _line_items(box: "Sandbox", calculation: Object) -> Object:
    found = box.store.where("tax.calculation_line_item", _calculation=calculation["id"])
    return as_list([render(box, o) for o in found], f"/v1/tax/calculations/{calculation['id']}/line_items")


def _present(box: "Sandbox", calculation: Object, shown: Object) -> None:
    shown.pop("line_items", None)


resource("tax.calculation", "taxcalc", present=_present, includes={"line_items": _line_items})
resource("tax.calculation_line_item", "tax_li")

LIFETIME = 90 * 86400
ADDRESS = {"city": None, "country": "", "line1": None, "line2": None, "postal_code": None, "state": None}


@operation("POST", "/v1/tax/calculations")
def create(box: "Sandbox", call: generic.Call) -> Object:
    params = call.params
    details = _customer_details(box, params)
    exempt = {"customer_exempt": "exempt", "reverse_charge": "reverse"}.get(details["taxability_override"])
    rate = taxes.applied_rate(details["address"], details["tax_ids"], exempt)
    calculation = box.create(
        "tax.calculation",
        currency=currencies.check(params["currency"]),
        customer=params.get("customer"),
        customer_details=details,
        expires_at=box.now() + LIFETIME,
        tax_date=params.get("tax_date", box.now()),
        tax_breakdown=[],
    )
    lines = [_line(box, calculation, rate, index, each) for index, each in enumerate(params["line_items"])]
    _total(box, calculation, rate, lines)
    return calculation


def _customer_details(box: "Sandbox", params: dict[str, Any]) -> Object:
    given = params.get("customer_details") or {}
    details: Object = {"address": None, "address_source": given.get("address_source"), "ip_address": None}
    details |= {"tax_ids": given.get("tax_ids") or [], "taxability_override": given.get("taxability_override", "none")}
    address: Object = given.get("address") or {}
    if name := params.get("customer"):
        customer = box.get("customer", name, param="customer")
        copied = taxes.customer_fields(box, customer)
        address, details["tax_ids"] = customer["address"] or {}, copied["customer_tax_ids"]
    if not address.get("country"):
        raise invalid(
            "We could not determine the customer's tax location based on the provided customer address.",
            param="customer_details[address]",
            code="customer_tax_location_invalid",
        )
    details["address"] = ADDRESS | {k: v or None for k, v in address.items()}
    return details | {"address_source": details["address_source"] or "billing"}


def _line(box: "Sandbox", calculation: Object, rate: taxes.Rate, index: int, given: dict[str, Any]) -> Object:
    inclusive = given.get("tax_behavior") == "inclusive"
    owed = taxes.amount(given["amount"], rate, inclusive=inclusive)
    return box.create(
        "tax.calculation_line_item",
        amount=given["amount"],
        amount_tax=owed,
        product=given.get("product"),
        quantity=given.get("quantity", 1),
        reference=given.get("reference", f"L{index + 1}"),
        tax_behavior="inclusive" if inclusive else "exclusive",
        tax_breakdown=[],
        tax_code=given.get("tax_code", "txcd_10103001"),
        _calculation=calculation["id"],
    )


def _total(box: "Sandbox", calculation: Object, rate: taxes.Rate, lines: list[Object]) -> None:
    sums = {kind: [line for line in lines if line["tax_behavior"] == kind] for kind in ("exclusive", "inclusive")}
    owed = {kind: sum(line["amount_tax"] for line in found) for kind, found in sums.items()}
    breakdown = [
        {
            "amount": owed[kind],
            "inclusive": kind == "inclusive",
            "tax_rate_details": {
                "country": rate.country,
                "flat_amount": None,
                "percentage_decimal": f"{Decimal(rate.percent):f}",
                "rate_type": "percentage",
                "state": rate.state,
                "tax_type": rate.tax_type,
            },
            "taxability_reason": rate.reason,
            "taxable_amount": sum(line["amount"] for line in found) - (owed[kind] if kind == "inclusive" else 0),
        }
        for kind, found in sums.items()
        if found
    ]
    box.change(
        calculation,
        tax_amount_exclusive=owed["exclusive"],
        tax_amount_inclusive=owed["inclusive"],
        amount_total=sum(line["amount"] for line in lines) + owed["exclusive"],
        tax_breakdown=breakdown,
    )


@operation("GET", "/v1/tax/calculations/{calculation}")
def retrieve(box: "Sandbox", call: generic.Call) -> Object:
    return box.get("tax.calculation", call.id)


@operation("GET", "/v1/tax/calculations/{calculation}/line_items")
def list_line_items(box: "Sandbox", call: generic.Call) -> Object:
    calculation = box.get("tax.calculation", call.ids["calculation"])
    found = box.store.where("tax.calculation_line_item", _calculation=calculation["id"])
    return page(box, found, call.params, call.path)
