"""Glue between the broker and tax: one verb each, safe twice. What is lost, the next sweep finds."""

from celery import shared_task

from accounts import clock
from billing_portal.billing.tax import automatic, details, records, tax_ids


@shared_task
def send_billing_details() -> None:
    """Bring to Stripe what it does not have yet: addresses, tax ids, and that tax is to be worked out."""
    now = clock.now()
    details.send_waiting(now=now)
    tax_ids.send_waiting(now=now)
    automatic.switch_on_missing(now=now)


@shared_task
def look_at_tax_ids() -> None:
    """Ask Stripe about the tax ids that it is still verifying."""
    tax_ids.look_again(now=clock.now())


@shared_task
def store_taxes() -> None:
    """Store whom final invoices are made out to, and their tax, where that is not done yet."""
    records.store_missing(now=clock.now())
