"""The invoice that a Checkout payment leaves behind where its session asks for one: finalised and paid at once.

Documented, not verified: that nothing of the customer's balance is settled with it, as it was paid before it was made.
"""

from typing import TYPE_CHECKING

from billing_portal.sandbox.store import Object

from . import collection, invoice_items, invoices, lines, totals

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

TAKEN_OVER = ("custom_fields", "description", "footer", "metadata")


def is_wanted(session: Object) -> bool:
    return session["mode"] == "payment" and bool((session["invoice_creation"] or {}).get("enabled"))


def make(box: "Sandbox", session: Object, customer: Object, intent: Object) -> Object:
    """Make the invoice of a session that has just been paid."""
    data = session["invoice_creation"]["invoice_data"]
    given = {name: data[name] for name in TAKEN_OVER if data.get(name)}
    taxed = {"enabled": session["automatic_tax"]["enabled"]}
    invoice = invoices.draft(
        box, customer, session["currency"], auto_advance=False, automatic_tax=taxed, _intent=intent["id"], **given
    )
    for item in box.store.where("item", _session=session["id"]):
        _add(box, invoice, customer, item)
    totals.compute(box, invoice)
    box.emit("invoice.created", invoice)
    invoices.number(box, invoice, customer, ending_balance=0)
    due = invoice["total"]
    box.change(invoice, starting_balance=0, amount_due=due, amount_remaining=due)
    box.tell(invoice, "finalized")
    _settle(box, invoice, intent)
    return invoice


def _add(box: "Sandbox", invoice: Object, customer: Object, item: Object) -> None:
    made = invoice_items.make(
        box,
        customer,
        invoice["currency"],
        invoice=invoice,
        amount=item["amount_subtotal"],
        description=item["description"],
        quantity=item["quantity"],
        quantity_decimal=str(item["quantity"]),
        _tax_behavior=item["price"]["tax_behavior"],
    )
    lines.add_invoice_item(box, invoice, made)


def _settle(box: "Sandbox", invoice: Object, intent: Object) -> None:
    """Note the payment that came before the invoice."""
    now = box.time_of(invoice)
    payment = box.create(
        "invoice_payment",
        amount_paid=intent["amount_received"],
        amount_requested=invoice["amount_due"],
        currency=invoice["currency"],
        invoice=invoice["id"],
        is_default=True,
        payment={"type": "payment_intent", "payment_intent": intent["id"]},
        status="paid",
        status_transitions={"canceled_at": None, "paid_at": now},
    )
    box.change(invoice, amount_paid=intent["amount_received"], _payment=payment["id"])
    box.tell(payment, "paid")
    collection.mark_paid(box, invoice)
