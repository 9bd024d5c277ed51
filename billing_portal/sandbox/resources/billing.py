"""Which invoice a subscription makes when: at its start, at the end of a period, and at its own end."""

from typing import TYPE_CHECKING, Any

from billing_portal.sandbox.errors import StripeError
from billing_portal.sandbox.registry import RESOURCES, Resource
from billing_portal.sandbox.store import Object

from . import collection, invoice_items, invoices, lines, subscription_items, totals

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox


def declared(kind: str) -> Resource:
    return RESOURCES[kind]


def _draft(box: "Sandbox", subscription: Object, reason: str, start: int, end: int, **fields: Any) -> Object:
    customer = box.get("customer", subscription["customer"])
    due = None
    if subscription["collection_method"] == "send_invoice":
        due = box.time_of(subscription) + (subscription["days_until_due"] or 30) * 86400
    invoice = invoices.draft(
        box,
        customer,
        subscription["currency"],
        **{"auto_advance": True}
        | fields
        | {
            "automatic_tax": subscription["automatic_tax"],
            "billing_reason": reason,
            "collection_method": subscription["collection_method"],
            "due_date": due,
            "parent": invoices.subscription_parent(subscription),
            "period_start": start,
            "period_end": end,
            "_subscription": subscription["id"],
        },
    )
    box.change(subscription, latest_invoice=invoice["id"])
    return invoice


def first_invoice(box: "Sandbox", subscription: Object, behavior: str) -> None:
    """Licensed items are paid in advance, at once. Flexible billing sends no empty invoice for metered ones."""
    found = subscription_items.of(box, subscription)
    licensed = [item for item in found if not subscription_items.is_metered(box, item)]
    if not licensed and subscription["billing_mode"]["type"] == "flexible":
        return
    now = box.time_of(subscription)
    invoice = _draft(box, subscription, "subscription_create", now, now)
    for item in found:
        add = lines.add_licensed if item in licensed else lines.add_trial
        add(box, invoice, item, subscription["_period_start"], subscription["_period_end"])
    invoices.announce(box, invoice)
    invoices.finalize(box, invoice)
    if invoice["status"] == "open" and subscription["collection_method"] == "charge_automatically":
        _pay_first(box, subscription, invoice, behavior)


def _pay_first(box: "Sandbox", subscription: Object, invoice: Object, behavior: str) -> None:
    if behavior != "default_incomplete":
        collection.attempt(box, invoice)
    if invoice["status"] == "paid":
        return
    if behavior == "error_if_incomplete":
        intent = box.get("payment_intent", invoice["_intent"])
        reason = intent["last_payment_error"] or {"message": "The payment failed."}
        raise StripeError(reason["message"], status=402, type="card_error", code=reason.get("code"))
    box.change(subscription, tell=True, status="incomplete")
    box.schedule("subscription.expire", subscription, box.time_of(subscription) + 23 * 3600)


def cycle_invoice(box: "Sandbox", subscription: Object, ended: tuple[int, int]) -> Object | None:
    """The draft at a period's boundary."""
    behavior = (subscription["pause_collection"] or {}).get("behavior")
    keeps = {"auto_advance": behavior is None}
    invoice = _draft(box, subscription, "subscription_cycle", *ended, **keeps)
    for item in subscription_items.of(box, subscription):
        if subscription_items.is_metered(box, item):
            lines.add_metered(box, invoice, item, *ended)
        else:
            start, end = subscription["_period_start"], subscription["_period_end"]
            lines.add_licensed(box, invoice, item, start, end)
    invoice_items.pull_in(box, invoice, subscription["id"])
    invoices.announce(box, invoice)
    return invoice


def close_period(box: "Sandbox", subscription: Object, now: int, *, final: bool) -> None:
    """Invoice what was used since the period began, when a subscription ends before or with it."""
    start = subscription["_period_start"]
    metered = [i for i in subscription_items.of(box, subscription) if subscription_items.is_metered(box, i)]
    if not metered or now <= start:
        return
    invoice = _draft(box, subscription, "subscription_cycle" if final else "manual", start, now)
    for item in metered:
        lines.add_metered(box, invoice, item, start, now)
    invoice_items.pull_in(box, invoice, subscription["id"])
    totals.compute(box, invoice)
    invoices.announce(box, invoice)
