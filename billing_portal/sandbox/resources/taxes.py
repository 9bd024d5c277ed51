"""Automatic tax: a small table of real rates for software sold from the United States, by where the customer is.

The table is of November 2026 and knows standard rates only. Everywhere else the account is not registered, which
is an answer of its own (``not_collecting``), not an error.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import currencies
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.store import Object

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox


@dataclass(frozen=True)
class Rate:
    """What is collected in one place."""

    percent: str
    name: str
    tax_type: str | None
    country: str
    state: str | None = None
    reason: str = "standard_rated"


RATES = {
    ("DE", None): Rate("19", "VAT", "vat", "DE"),
    ("FR", None): Rate("20", "VAT", "vat", "FR"),
    ("GB", None): Rate("20", "VAT", "vat", "GB"),
    ("JP", None): Rate("10", "JCT", "jct", "JP"),
    ("US", "NY"): Rate("8.875", "Sales tax", "sales_tax", "US", "NY"),
    ("US", "CA"): Rate("0", "Sales tax", "sales_tax", "US", "CA", reason="product_exempt"),  # software as a service
}
REVERSE_CHARGE = {"eu_vat": {"DE", "FR"}, "gb_vat": {"GB"}}


@dataclass
class Tax:
    """The tax on an invoice: on top of its lines, contained in them, and by rate."""

    state: Object
    exclusive: int = 0
    inclusive: int = 0
    totals: list[Object] = field(default_factory=list)


def rate_for(address: Object | None) -> Rate:
    """The rate at an address; a state counts only where the table has one."""
    country = (address or {}).get("country") or ""
    state = (address or {}).get("state")
    found = RATES.get((country, state)) or RATES.get((country, None))
    return found or Rate("0", "Tax", None, country, state, reason="not_collecting")


def applied_rate(address: Object | None, tax_ids: list[Object], exempt: str | None) -> Rate:
    """The rate for a customer: exemption and reverse charge come before the place."""
    rate = rate_for(address)
    if exempt == "exempt":
        return _zero(rate, "customer_exempt")
    owes_themselves = any(rate.country in REVERSE_CHARGE.get(t["type"], ()) for t in tax_ids)
    if exempt == "reverse" or owes_themselves:
        return _zero(rate, "reverse_charge")
    return rate


def _zero(rate: Rate, reason: str) -> Rate:
    return Rate("0", rate.name, rate.tax_type, rate.country, rate.state, reason=reason)


def amount(base: int, rate: Rate, *, inclusive: bool) -> int:
    """The tax on, or contained in, an amount of minor units, rounded half up; negative amounts have negative tax."""
    share = Decimal(rate.percent) / 100
    return currencies.rounded(base * share / (1 + share) if inclusive else base * share)


def rate_object(box: "Sandbox", rate: Rate, *, inclusive: bool) -> Object:
    """The tax rate that an invoice refers to, one for each place and way of adding."""
    for found in box.store.where("tax_rate", _for=f"{rate}:{inclusive}"):
        return found
    place = f"{rate.country}-{rate.state}" if rate.state else rate.country
    return box.create(
        "tax_rate",
        emit=False,
        active=False,
        country=rate.country or None,
        state=rate.state,
        display_name=rate.name,
        effective_percentage=float(rate.percent),
        inclusive=inclusive,
        jurisdiction=place or None,
        jurisdiction_level="state" if rate.state else "country",
        percentage=float(rate.percent),
        rate_type="percentage",
        tax_type=rate.tax_type,
        _for=f"{rate}:{inclusive}",
    )


# On invoices


def customer_fields(box: "Sandbox", customer: Object) -> dict[str, Any]:
    """What an invoice copies from its customer, to stay as it is when they change."""
    ids = [t for t in box.store.where("tax_id", customer=customer["id"]) if not t.get("_deleted")]
    return {
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [{"type": t["type"], "value": t["value"]} for t in ids],
    }


def is_placed(address: Object | None) -> bool:
    """Whether an address says enough to find its place: the country, in the United States the ZIP code as well, in
    Canada that or the province. A postal code of nothing but zeros is nowhere.
    """
    given = address or {}
    country, code = given.get("country"), (given.get("postal_code") or "").strip()
    if not country or (code and not code.strip("0- ")):
        return False
    return bool(country not in {"US", "CA"} or code or (country == "CA" and given.get("state")))


def is_located(invoice: Object) -> bool:
    return is_placed(invoice["customer_address"])


def require_location(box: "Sandbox", invoice: Object) -> None:
    """Finalising by hand with automatic tax needs to know where the customer is."""
    refresh_customer(box, invoice)
    if invoice["automatic_tax"]["enabled"] and box.faults.tax.get("failing"):
        raise invalid("Taxes could not be calculated. Please try again.", code="taxes_calculation_failed")
    if invoice["automatic_tax"]["enabled"] and not is_located(invoice):
        raise invalid(
            "The customer's location isn't recognized. Set a valid customer address in order to automatically"
            " calculate tax.",
            param="automatic_tax",
            code="customer_tax_location_invalid",
        )


def drop_if_unlocated(box: "Sandbox", invoice: Object) -> None:
    """Automatic finalisation goes on without tax, and says why."""
    refresh_customer(box, invoice)
    if invoice["automatic_tax"]["enabled"] and not is_located(invoice):
        reason = {"disabled_reason": "finalization_requires_location_inputs", "enabled": False, "status": None}
        box.change(invoice, automatic_tax=invoice["automatic_tax"] | reason)


def refresh_customer(box: "Sandbox", invoice: Object) -> None:
    """While an invoice is a draft it follows its customer's address and tax ids."""
    customer = box.store.tables["customer"][invoice["customer"]]
    if invoice["status"] == "draft" and not customer.get("_deleted"):
        box.change(invoice, **customer_fields(box, customer))


def apply(box: "Sandbox", invoice: Object, found: list[Object]) -> Tax:
    """Compute the tax of each line; none unless automatic tax is on."""
    state = invoice["automatic_tax"]
    if not state["enabled"]:
        return Tax(state)
    refresh_customer(box, invoice)
    if box.faults.tax.get("failing"):
        return Tax(state | {"status": "failed"})
    if not is_located(invoice):
        return Tax(state | {"status": "requires_location_inputs"})
    rate = applied_rate(invoice["customer_address"], invoice["customer_tax_ids"] or [], invoice["customer_tax_exempt"])
    tax = Tax(state | {"status": "complete"})
    sums: dict[bool, list[int]] = {}
    for line in found:
        inclusive = _behavior(box, line) == "inclusive"
        base = line["amount"] - sum(credit["amount"] for credit in line["pretax_credit_amounts"] or ())
        owed = amount(base, rate, inclusive=inclusive)
        box.change(line, taxes=[_entry(box, rate, owed, base - (owed if inclusive else 0), inclusive=inclusive)])
        total = sums.setdefault(inclusive, [0, 0])
        total[0] += owed
        total[1] += base - (owed if inclusive else 0)
    tax.exclusive, tax.inclusive = (sums.get(kind, [0, 0])[0] for kind in (False, True))
    tax.totals = [_entry(box, rate, *amounts, inclusive=kind) for kind, amounts in sums.items()]
    return tax


def _behavior(box: "Sandbox", line: Object) -> str:
    """The line's own behaviour, else its price's; an unspecified one adds tax on top."""
    if own := line.get("_tax_behavior"):
        return str(own)
    price = (line["pricing"] or {}).get("price_details", {}).get("price")
    found = box.store.get("price", price or "")
    return str(found["tax_behavior"]) if found else "exclusive"


def _entry(box: "Sandbox", rate: Rate, owed: int, base: int, *, inclusive: bool) -> Object:
    return {
        "amount": owed,
        "tax_behavior": "inclusive" if inclusive else "exclusive",
        "tax_rate_details": {"tax_rate": rate_object(box, rate, inclusive=inclusive)["id"]},
        "taxability_reason": rate.reason,
        "taxable_amount": base if Decimal(rate.percent) else 0,
        "type": "tax_rate_details",
    }
