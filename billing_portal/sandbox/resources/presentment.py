"""Adaptive Pricing: a customer pays in the money of their own country, the account is paid in its own.

As at Stripe it exists in Checkout and on hosted invoices, never for a payment the application makes itself; the
objects keep their currency, and ``presentment_details`` say what the customer paid. ``currency_conversion`` stays
null: Stripe fills it only for sessions from before March 2025.

The rates are the sandbox's own, round and fixed: nothing is looked up, and no fee for the conversion is in them.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from billing_portal.sandbox import currencies
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.store import Object

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

PER_DOLLAR = {
    "usd": "1", "aud": "1.5", "brl": "5.5", "cad": "1.4", "chf": "0.9", "dkk": "6.8", "eur": "0.9", "gbp": "0.8",
    "inr": "85", "jpy": "150", "kwd": "0.3", "mxn": "18", "nok": "10.5", "nzd": "1.6", "pln": "4", "sek": "10",
}  # fmt: skip
EURO = "AT BE BG CY DE EE ES FI FR GR HR IE IT LT LU LV MT NL PT SI SK"
CURRENCY_OF = dict.fromkeys(EURO.split(), "eur") | {
    "US": "usd", "AU": "aud", "BR": "brl", "CA": "cad", "CH": "chf", "DK": "dkk", "GB": "gbp", "IN": "inr",
    "JP": "jpy", "KW": "kwd", "MX": "mxn", "NO": "nok", "NZ": "nzd", "PL": "pln", "SE": "sek",
}  # fmt: skip
TEST_PLACE = re.compile(r"\+location_([A-Z]{2})@")
"""Stripe's own way to test this: ``owner+location_FR@customer.example`` pays from France."""


@dataclass(frozen=True)
class Offer:
    """What a payment may be paid in, which of these is chosen, and the amount of each."""

    amounts: dict[str, int]
    chosen: str
    rate: Decimal

    @property
    def amount(self) -> int:
        return self.amounts[self.chosen]


def rate(source: str, target: str) -> Decimal | None:
    """Units of the target currency for one of the source; None where the table lacks either."""
    if source not in PER_DOLLAR or target not in PER_DOLLAR:
        return None
    return Decimal(PER_DOLLAR[target]) / Decimal(PER_DOLLAR[source])


def convert(amount: int, source: str, target: str) -> int:
    """An amount of minor units in another currency, rounded half up to what can be charged in it."""
    exact = Decimal(amount) * (rate(source, target) or 1)
    shifted = exact.scaleb(currencies.exponent(target) - currencies.exponent(source))
    if target in currencies.THREE_DECIMAL:
        return currencies.rounded(shifted / 10) * 10
    return currencies.rounded(shifted)


def offer(box: "Sandbox", intent: Object) -> Offer | None:
    """The local currency beside the payment's own, where the customer's place is known and has another one."""
    own, local = intent["currency"], CURRENCY_OF.get(_country(box, intent) or "")
    found = rate(own, local or "")
    if local is None or local == own or found is None:
        return None
    amounts = {local: convert(intent["amount"], own, local), own: intent["amount"]}
    default = local if intent.get("_checkout") else own
    return Offer(amounts, intent.get("_presentment") or default, found)


def _country(box: "Sandbox", intent: Object) -> str | None:
    """Where the payment's customer is. Stripe asks their address on the network; here it is the one they gave."""
    session = box.store.get("checkout.session", intent.get("_checkout") or "")
    if session is None and not intent.get("_invoice"):
        return None
    if session and not (session["adaptive_pricing"] or {}).get("enabled"):
        return None
    customer = box.store.get("customer", intent["customer"] or "") or {}
    given = (session or {}).get("customer_details") or {}
    email = (session or {}).get("customer_email") or given.get("email") or customer.get("email") or ""
    if place := TEST_PLACE.search(email):
        return place[1]
    address: Object = given.get("address") or customer.get("address") or {}
    return address.get("country")


def choose(box: "Sandbox", intent_id: str, currency: str) -> None:
    """The customer decides on the page which of the two currencies to pay in."""
    intent = box.get("payment_intent", intent_id)
    found = offer(box, intent)
    if found is None or currency not in found.amounts:
        raise invalid(f"This payment is not offered in {currency}.", param="currency")
    box.change(intent, _presentment=currency)


def details(box: "Sandbox", intent: Object) -> Object:
    """What the objects of a payment show of the currency its customer pays in; nothing where that is its own."""
    found = offer(box, intent)
    if found is None or found.chosen == intent["currency"]:
        return {}
    return {"presentment_details": {"presentment_amount": found.amount, "presentment_currency": found.chosen}}


def part(charge: Object, amount: int) -> Object:
    """The same for a refund of a part of a charge, at the rate of the charge."""
    paid = charge.get("presentment_details")
    if not paid:
        return {}
    share = currencies.share(paid["presentment_amount"], amount, charge["amount"])
    return {"presentment_details": paid | {"presentment_amount": share}}
