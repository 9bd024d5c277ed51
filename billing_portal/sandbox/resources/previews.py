"""The invoice that would come: computed by really making it, looking at it, and undoing everything."""

from typing import TYPE_CHECKING

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.registry import operation
from billing_portal.sandbox.store import Object

from . import billing, invoice_items, invoices, lines, subscription_items, totals

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox


@operation("POST", "/v1/invoices/create_preview")
def create_preview(box: "Sandbox", call: generic.Call) -> Object:
    params = call.params
    subscription = None
    if name := params.get("subscription"):
        subscription = box.get("subscription", name, param="subscription")
    customer_id = params.get("customer") or (subscription or {}).get("customer")
    if not customer_id:
        raise invalid("You must pass `customer` or `subscription`.", param="customer", code="parameter_missing")
    box.get("customer", customer_id, param="customer")
    with box.pretend():
        invoice = _build(box, call, customer_id, subscription)
        shown = box.retrieve("invoice", invoice["id"])
    return shown | {"id": shown["id"].replace("in_", "upcoming_in_", 1)}


def _build(box: "Sandbox", call: generic.Call, customer_id: str, subscription: Object | None) -> Object:
    customer = box.get("customer", customer_id)
    if subscription is None:
        currency = call.params.get("currency") or customer["currency"] or "usd"
        invoice = invoices.draft(
            box, customer, currency, billing_reason="upcoming", automatic_tax=call.params.get("automatic_tax")
        )
        invoice_items.pull_in(box, invoice, None)
    else:
        details = call.params.get("subscription_details") or {}
        if wanted := details.get("items"):
            behavior = details.get("proration_behavior", "create_prorations")
            subscription_items.change_all(box, subscription, wanted, behavior)
        invoice = _upcoming(box, subscription)
    for each in call.params.get("invoice_items", ()):
        fields = {"amount": each.get("amount", 0), "description": each.get("description")}
        fields["_tax_behavior"] = each.get("tax_behavior")
        item = invoice_items.make(box, customer, invoice["currency"], invoice=invoice, **fields)
        lines.add_invoice_item(box, invoice, item)
    totals.compute(box, invoice)
    return invoice


def _upcoming(box: "Sandbox", subscription: Object) -> Object:
    """The cycle's invoice as of now: usage so far, licensed items for the period after."""
    ended = (subscription["_period_start"], subscription["_period_end"])
    invoice = billing.cycle_invoice(box, subscription, ended)
    assert invoice is not None
    box.change(invoice, billing_reason="upcoming", created=subscription["_period_end"])
    return invoice
