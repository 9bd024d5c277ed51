"""The task that walks one invoice: apart from the others, so that the inbox's receivers can queue it."""

from celery import shared_task

from accounts import clock, queueing
from billing_portal.billing import month_end
from billing_portal.billing.models import Invoice

# Stripe counts asynchronously, within seconds: an invoice that waits is looked at again soon, later by the sweep.
_LOOKS = 6


@shared_task
def advance_invoice(invoice_id: int, look: int = 1) -> None:
    """Take one invoice as far as it can go; if it waits for Stripe, look again in a moment, a few times."""
    invoice = Invoice.objects.get(pk=invoice_id)
    if month_end.advance(invoice, now=clock.now()) or look >= _LOOKS:
        return
    invoice.refresh_from_db()
    # Without a reason another process is at it, which looks again itself.
    if invoice.waiting_for:
        queueing.send(advance_invoice, invoice_id, look + 1, countdown=2**look)


def ask_to_advance(invoice: Invoice) -> None:
    """Queue the walk of an invoice on commit, if it has not begun or stopped before its lines were stored."""
    is_new = invoice.state == Invoice.State.DRAFT and invoice.month is not None and not invoice.waiting_for
    is_unread = invoice.state not in {Invoice.State.DRAFT, Invoice.State.VOID} and not invoice.lines.exists()
    if is_new or is_unread:
        queueing.on_commit(advance_invoice, invoice.pk)
