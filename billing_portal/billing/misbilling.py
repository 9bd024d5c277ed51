"""An invoice that Stripe finalized before we were ready: a credit note takes back what it billed too much."""

from datetime import datetime

from billing_portal.billing import credit_note_issuing, credit_notes, minor_units, reconciliation
from billing_portal.billing.models import CreditNote, Invoice

_REASON = "It was finalized before credit, or what was invoiced earlier, was taken off."
_NOT_ENOUGH = "Stripe finalized it without us, and billed {missing:,} minor units less than was used."


def put_right(invoice: Invoice, *, now: datetime) -> str:
    """Take back what the finalized invoice bills beyond what is due, once; return what is still missing, or nothing.

    Its lines must be stored and its month closed, so that what is due stands.
    """
    note = CreditNote.objects.filter(invoice=invoice, reference=_reference(invoice)).first()
    if note is None:
        found = reconciliation.reconcile_invoice(invoice, deep=False)
        excess = found.stripe_total_minor - found.our_total_minor
        if excess < 0:
            return _NOT_ENOUGH.format(missing=-excess)
        if excess:
            note = _ask(invoice, excess, now=now)
    if note is not None and not credit_note_issuing.issue(note, now=now):
        return "The credit note that puts it right is being made."
    if note is not None and note.state == CreditNote.State.REFUSED:
        return f"Stripe refused the credit note that puts it right: {note.failure}"
    Invoice.objects.filter(pk=invoice.pk, credited_at=None).update(credited_at=now)
    return ""


def _ask(invoice: Invoice, excess_minor: int, *, now: datetime) -> CreditNote:
    return credit_notes.ask(
        invoice=invoice,
        micros=minor_units.to_micros(excess_minor, invoice.currency),
        reason=_REASON,
        reference=_reference(invoice),
        cause=CreditNote.Cause.MISBILLED,
        now=now,
    )


def _reference(invoice: Invoice) -> str:
    return f"misbilled:{invoice.stripe_invoice_id}"
