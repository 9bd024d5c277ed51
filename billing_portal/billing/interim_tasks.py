"""Glue between the broker and interim invoices: ids in, one verb, safe twice. What is lost, the sweep finds."""

from celery import shared_task

from accounts import clock
from billing_portal.billing import interim_walk
from billing_portal.billing.models import InterimInvoice


@shared_task
def advance_interim(interim_id: int) -> None:
    """Take one interim invoice as far as it can go."""
    interim = InterimInvoice.objects.select_related("organization", "invoice").get(pk=interim_id)
    interim_walk.advance(interim, now=clock.now())


@shared_task
def invoice_arrears() -> None:
    """Write the interim invoices that are due, and advance those that are open."""
    interim_walk.advance_waiting(now=clock.now())
