"""Glue between the broker and what invoices are for."""

from datetime import datetime

from celery import shared_task

from accounts import clock, queueing
from billing_portal.billing import amounts_due
from billing_portal.billing.amounts_due import Row
from billing_portal.billing.models import Invoice
from usage.shares import Grouping

_DEBOUNCE_SECONDS = 60


@shared_task(time_limit=1800)
def compute_amount_due(invoice_id: int, grouping: str, key: str) -> None:
    """Compute what an invoice's amount due is for, by one grouping."""
    invoice = Invoice.objects.select_related("organization").get(pk=invoice_id)
    amounts_due.compute(invoice, Grouping(grouping), key=key, now=clock.now())


def rows(invoice: Invoice, grouping: Grouping, key: str, *, now: datetime) -> list[Row] | None:
    """Return what the amount due is for; of a large invoice it is computed in the background, and None until then.

    Raises amounts_due.NotFinal and Unspread.
    """
    known = amounts_due.known(invoice, grouping, key=key)
    if known is None and amounts_due.is_small(invoice):
        known = amounts_due.compute(invoice, grouping, key=key, now=now)
    if known is None:
        ask_to_compute(invoice, grouping, key)
    return known


def ask_to_compute(invoice: Invoice, grouping: Grouping, key: str) -> None:
    """Queue it, once a minute: a page that waits asks again and again."""
    if queueing.claim(f"billing.amount_due.{invoice.pk}.{grouping}.{key}"[:200], seconds=_DEBOUNCE_SECONDS):
        queueing.on_commit(compute_amount_due, invoice.pk, str(grouping), key)
