"""Glue between the broker and collecting: one verb each, safe twice. What is lost, the next sweep finds."""

from celery import shared_task

from accounts import clock
from billing_portal.billing import card_expiry, overdue, overdue_walk


@shared_task
def pursue_overdue() -> None:
    """Look up what failed, and tell of each step."""
    overdue_walk.advance_waiting(now=clock.now())


@shared_task
def mend_overdue_facts() -> None:
    """Prove what the ledger knows of unpaid invoices."""
    overdue.mend()


@shared_task
def warn_of_card_expiry() -> None:
    """Write to those whose card is about to expire."""
    card_expiry.warn(now=clock.now())
