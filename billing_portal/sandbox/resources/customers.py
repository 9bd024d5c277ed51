"""Customers, their tax ids and the balance that invoices draw on."""

import secrets
import string
from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.registry import job, operation, resource
from billing_portal.sandbox.rendering import as_list, render
from billing_portal.sandbox.store import Object

from . import payment_methods, taxes

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

LOOKED_UP = {"au_abn", "eu_vat", "gb_vat"}
"""The kinds whose official register is asked."""
VERIFICATION_SECONDS = 2
UNKNOWN_TO_THE_REGISTER, PENDING_FOR_EVER = "111111111", "222222222"

RUNNING = {"active", "trialing", "past_due", "unpaid", "incomplete", "paused"}


def _tax_ids(box: "Sandbox", customer: Object) -> Object:
    found = [o for o in box.store.where("tax_id", customer=customer["id"]) if not o.get("_deleted")]
    return as_list([render(box, o) for o in found[::-1]], f"/v1/customers/{customer['id']}/tax_ids")


def _subscriptions(box: "Sandbox", customer: Object) -> Object:
    found = [s for s in box.store.where("subscription", customer=customer["id"]) if s["status"] in RUNNING]
    return as_list([render(box, s) for s in found[::-1]], f"/v1/customers/{customer['id']}/subscriptions")


def _sources(box: "Sandbox", customer: Object) -> Object:
    return as_list([], f"/v1/customers/{customer['id']}/sources")


def _tax(box: "Sandbox", customer: Object) -> Object:
    address = customer.get("address") or {}
    country = address.get("country")
    if not taxes.is_placed(address):
        return {"automatic_tax": "unrecognized_location", "ip_address": None, "location": None, "provider": "stripe"}
    location = {"country": country, "source": "billing_address", "state": address.get("state")}
    return {"automatic_tax": "supported", "ip_address": None, "location": location, "provider": "stripe"}


resource(
    "customer",
    "cus",
    "/v1/customers",
    defaults={"balance": 0, "delinquent": False, "tax_exempt": "none", "preferred_locales": []},
    filters={"email": lambda customer, email: customer["email"] == email},
    includes={"tax_ids": _tax_ids, "subscriptions": _subscriptions, "sources": _sources, "tax": _tax},
)
resource(
    "tax_id",
    "txi",
    "/v1/customers/{customer}/tax_ids",
    parent="customer",
    events="customer.tax_id",
    defaults={"verification": {"status": "unavailable", "verified_address": None, "verified_name": None}},
)
resource(
    "customer_balance_transaction",
    "cbtxn",
    "/v1/customers/{customer}/balance_transactions",
    parent="customer",
)


def invoice_prefix() -> str:
    return "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(8))


@operation("POST", "/v1/customers")
def create(box: "Sandbox", call: generic.Call) -> Object:
    params = dict(call.params)
    token = params.pop("source", None)
    method = params.pop("payment_method", token)
    tax_ids = params.pop("tax_id_data", [])
    _refuse_unknown_location(params)
    params.pop("cash_balance", None)
    generic.check_references(box, "customer", params)
    fields: Object = {"invoice_prefix": invoice_prefix(), "next_invoice_sequence": 1}
    fields["invoice_settings"] = box.schemas.blank(box.schemas.properties("customer")["invoice_settings"])
    fields |= box.overlay("customer", params, fields)
    fields.pop("tax", None)
    customer = box.create("customer", **fields)
    if method:
        payment_methods.attach_to(box, payment_methods.resolve(box, method), customer)
    for each in tax_ids:
        add_tax_id(box, customer, each)
    return customer


@operation("POST", "/v1/customers/{customer}")
def update(box: "Sandbox", call: generic.Call) -> Object:
    customer = box.get("customer", call.id)
    params = dict(call.params)
    _refuse_unknown_location({"address": customer["address"]} | params)
    default = (params.get("invoice_settings") or {}).get("default_payment_method")
    if default:
        method = box.get("payment_method", default, param="invoice_settings[default_payment_method]")
        if method["customer"] != customer["id"]:
            raise invalid(
                f"The customer does not have a payment method with the ID {default}. The payment method must be"
                " attached to the customer.",
                param="invoice_settings[default_payment_method]",
                code="resource_missing",
            )
    fields = box.overlay("customer", params, customer)
    for name in ("tax", "cash_balance"):
        fields.pop(name, None)
    box.change(customer, tell=True, **fields)
    return customer


def _refuse_unknown_location(params: dict[str, Any]) -> None:
    wanted = (params.get("tax") or {}).get("validate_location")
    if wanted == "immediately" and not taxes.is_placed(params.get("address")):
        raise invalid(
            "The customer's location isn't recognized. Set a valid customer address in order to automatically"
            " calculate tax.",
            param="address",
            code="customer_tax_location_invalid",
        )


@operation("POST", "/v1/customers/{customer}/tax_ids")
def create_tax_id(box: "Sandbox", call: generic.Call) -> Object:
    return add_tax_id(box, box.get("customer", call.ids["customer"]), call.params)


def add_tax_id(box: "Sandbox", customer: Object, params: dict[str, Any]) -> Object:
    country = params["type"].split("_")[0].upper()
    if params["type"] == "eu_vat":
        country = params["value"][:2].upper()
        if not country.isalpha():
            raise invalid(f"Invalid value for {params['type']}.", param="value", code="tax_id_invalid")
    owner = {"type": "customer", "customer": customer["id"]}
    tax_id = box.create(
        "tax_id", customer=customer["id"], type=params["type"], value=params["value"], country=country, owner=owner,
        verification=_verification("pending" if params["type"] in LOOKED_UP else "unavailable"),
    )  # fmt: skip
    if params["type"] in LOOKED_UP:
        box.schedule("tax_id.verify", tax_id, box.time_of(customer) + VERIFICATION_SECONDS)
    return tax_id


@job("tax_id.verify")
def verify(box: "Sandbox", key: str) -> None:
    """What the register says: Stripe's own numbers for tests are unknown to it, or never answered; others are known."""
    tax_id = box.store.get("tax_id", key)
    customer = box.store.get("customer", (tax_id or {}).get("customer") or "")
    if tax_id is None or customer is None or tax_id.get("_deleted") or PENDING_FOR_EVER in tax_id["value"]:
        return
    found = _verification("unverified")
    if UNKNOWN_TO_THE_REGISTER not in tax_id["value"]:
        address = customer["address"] or {}
        place = ", ".join(address[name] for name in ("line1", "postal_code", "city") if address.get(name))
        found = _verification("verified", (customer["name"] or "").upper() or None, place.upper() or None)
    box.change(tax_id, tell=True, verification=found)


def _verification(status: str, name: str | None = None, address: str | None = None) -> Object:
    return {"status": status, "verified_name": name, "verified_address": address}


@operation("GET", "/v1/tax_ids/{id}")
def retrieve_tax_id(box: "Sandbox", call: generic.Call) -> Object:
    return box.get("tax_id", call.id)


@operation("POST", "/v1/customers/{customer}/balance_transactions")
def create_balance_transaction(box: "Sandbox", call: generic.Call) -> Object:
    customer = box.get("customer", call.ids["customer"])
    entry = move_balance(
        box, customer, call.params["amount"], call.params["currency"], "adjustment", tell=True,
        description=call.params.get("description"), metadata=call.params.get("metadata") or {},
    )  # fmt: skip
    assert entry is not None
    return entry


def move_balance(
    box: "Sandbox", customer: Object, amount: int, currency: str, kind: str, *, tell: bool = False, **fields: Any
) -> Object | None:
    """Add to the customer's balance (negative is credit) and record why; nothing happens for zero."""
    if amount == 0 and kind != "adjustment":
        return None
    balance = customer["balance"] + amount
    before = box.change(customer, balance=balance, currency=customer["currency"] or currency)
    if before:
        box.tell(customer, "updated", before)
    return box.create(
        "customer_balance_transaction",
        customer=customer["id"],
        amount=amount,
        currency=currency,
        ending_balance=balance,
        type=kind,
        **fields,
    )
