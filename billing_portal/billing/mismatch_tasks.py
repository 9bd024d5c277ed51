"""The task of the continuous reconciliation: one verb, safe twice."""

from celery import shared_task

from accounts import clock
from billing_portal.billing import mismatches


@shared_task
def check_invoices() -> None:
    """Compare the invoices whose turn it is, and try the safe cures."""
    mismatches.check_due(now=clock.now())
