"""Prorating licensed items: credit for the unused rest of a period, charge for the rest under the new terms."""

from decimal import Decimal
from typing import TYPE_CHECKING

from billing_portal.sandbox import currencies
from billing_portal.sandbox.store import Object

from . import invoice_items, pricing

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox


def credit(box: "Sandbox", item: Object, behavior: str) -> None:
    """Give back what was paid for the rest of the period."""
    _add(box, item, behavior, -1, "Unused time on")


def charge(box: "Sandbox", item: Object, behavior: str) -> None:
    """Charge the rest of the period."""
    _add(box, item, behavior, 1, "Remaining time on")


def _add(box: "Sandbox", item: Object, behavior: str, sign: int, words: str) -> None:
    price = box.get("price", item["_price"])
    if behavior == "none" or price["recurring"]["usage_type"] == "metered":
        return
    subscription = box.get("subscription", item["subscription"])
    start, end = item["current_period_start"], item["current_period_end"]
    now = box.time_of(subscription)
    full = pricing.amount(price, subscription["currency"], item["quantity"])
    share = Decimal(max(0, end - now)) / Decimal(end - start)
    product = box.store.tables["product"][price["product"]]
    made = invoice_items.make(
        box,
        box.get("customer", subscription["customer"]),
        subscription["currency"],
        amount=sign * currencies.rounded(full * share),
        description=f"{words} {item['quantity']} × {product['name']}",
        period={"start": now, "end": end},
        proration=True,
        quantity=item["quantity"],
        quantity_decimal=str(item["quantity"]),
        parent={"subscription_details": {"subscription": subscription["id"]}, "type": "subscription_details"},
        _subscription=subscription["id"],
    )
    box.change(made, discountable=False)
