"""What happens to an event of each type, once its object is fetched and mirrored.

`RECEIVERS` do database work only and run in one transaction with the event's end. `FOLLOW_UPS` also speak to Stripe,
so they run before it, outside of any, and are safe to repeat. Types in neither are copied to the mirror, if at all.
"""

from datetime import datetime
from typing import Any, Protocol

from billing_portal.billing import (
    attempts,
    cards,
    claim_sources,
    claims,
    credit_notes,
    customers,
    gateway,
    invoice_tasks,
    invoices,
    purchases,
    seats,
)
from billing_portal.billing.gateway import Object
from billing_portal.billing.tax import details, tax_ids


class Receiver(Protocol):
    """A thin function of the object as it is at Stripe now. It may see the same one again, or a newer one first."""

    def __call__(self, stripe_object: Object, /, *, now: datetime) -> Any: ...


class GoneAtStripe(Exception):
    """The object of the event was deleted at Stripe, and ours rests on it."""


def receive_invoice(invoice: Object, *, now: datetime) -> None:
    """Take over an invoice, and queue what is to be done with it.

    Raises GoneAtStripe for a draft that somebody deleted: a person has to look.
    """
    if invoice.get("deleted"):
        if invoices.was_discarded(invoice["id"]):
            return
        raise GoneAtStripe(f"The draft {invoice['id']} was deleted at Stripe.")
    received = invoices.receive(invoice, now=now)
    purchases.receive(received, invoice, now=now)
    claims.follow(received, reason="The payment went back", now=now)
    seats.receive_invoice(received, invoice)
    invoice_tasks.ask_to_advance(received)


def fetch_invoice(stripe_object: Object, *, now: datetime) -> None:
    """Take over the invoice that an object belongs to, as it is now: it was changed by it."""
    if stripe_object.get("invoice"):
        receive_invoice(gateway.retrieve("invoices", stripe_object["invoice"]), now=now)


def receive_credit_note(note: Object, *, now: datetime) -> None:
    """Take over a credit note."""
    credit_notes.receive(note, now=now)


# Objects that dj-stripe has no model for: fetched, and kept in our own rows alone.
UNMIRRORED: dict[str, gateway.Kind] = {
    "credit_note": "credit_notes",
    "radar.early_fraud_warning": "radar.early_fraud_warnings",
    "tax_id": "tax_ids",
}

RECEIVERS: dict[str, Receiver] = {
    "charge.dispute.closed": claims.receive_chargeback,
    "charge.dispute.created": claims.receive_chargeback,
    "charge.dispute.funds_reinstated": claims.receive_chargeback,
    "charge.dispute.funds_withdrawn": claims.receive_chargeback,
    "charge.dispute.updated": claims.receive_chargeback,
    "charge.refund.updated": claims.receive_refund,
    "credit_note.created": receive_credit_note,
    "credit_note.updated": receive_credit_note,
    "credit_note.voided": receive_credit_note,
    "customer.deleted": customers.receive_deleted,
    "customer.subscription.updated": seats.receive,
    "customer.tax_id.created": tax_ids.receive,
    "customer.tax_id.deleted": tax_ids.receive,
    "customer.tax_id.updated": tax_ids.receive,
    "customer.updated": details.receive,
    "invoice.created": receive_invoice,
    "invoice.deleted": receive_invoice,
    "invoice.finalization_failed": receive_invoice,
    "invoice.finalized": receive_invoice,
    "invoice.marked_uncollectible": receive_invoice,
    "invoice.overdue": receive_invoice,
    "invoice.overpaid": receive_invoice,
    "invoice.paid": receive_invoice,
    "invoice.payment_action_required": receive_invoice,
    "invoice.payment_attempt_required": receive_invoice,
    "invoice.payment_failed": receive_invoice,
    "invoice.payment_succeeded": receive_invoice,
    "invoice.updated": receive_invoice,
    "invoice.voided": receive_invoice,
    "invoice.will_be_due": receive_invoice,
    "radar.early_fraud_warning.created": claims.receive_warning,
    "radar.early_fraud_warning.updated": claims.receive_warning,
    "refund.created": claims.receive_refund,
    "refund.failed": claims.receive_refund,
    "refund.updated": claims.receive_refund,
}

FOLLOW_UPS: dict[str, Receiver] = {
    "charge.dispute.closed": claim_sources.trace,
    "charge.dispute.created": claim_sources.trace,
    "charge.dispute.funds_reinstated": claim_sources.trace,
    "charge.dispute.funds_withdrawn": claim_sources.trace,
    "charge.dispute.updated": claim_sources.trace,
    "charge.refund.updated": claim_sources.trace,
    "credit_note.created": fetch_invoice,
    "credit_note.updated": fetch_invoice,
    "credit_note.voided": fetch_invoice,
    "charge.failed": attempts.receive,
    "charge.pending": attempts.receive,
    "charge.succeeded": attempts.receive,
    "charge.updated": attempts.receive,
    "payment_method.automatically_updated": cards.receive_method,
    "payment_method.detached": cards.receive_method,
    "payment_method.updated": cards.receive_method,
    "radar.early_fraud_warning.created": claim_sources.trace,
    "radar.early_fraud_warning.updated": claim_sources.trace,
    "refund.created": claim_sources.trace,
    "refund.failed": claim_sources.trace,
    "refund.updated": claim_sources.trace,
    "setup_intent.setup_failed": cards.receive_failed_setup,
    "setup_intent.succeeded": cards.receive_setup,
}
