"""Glue between the broker and onboarding: ids in, one verb, safe twice."""

from celery import shared_task

from accounts import clock, queueing
from accounts.models import Organization
from billing_portal.billing import customers, export_invoices
from billing_portal.portal import export_letters, price_letters, rule_letters
from usage.exports import jobs


@shared_task
def subscribe(organization_id: int) -> None:
    """Make the organization known to Stripe, with a subscription."""
    customers.subscribe(Organization.objects.get(pk=organization_id), now=clock.now())


@shared_task
def subscribe_missing() -> None:
    """Repeat what was lost between sign-up and Stripe."""
    missing = Organization.objects.filter(customer__stripe_subscription_id=None, account__isnull=False)
    for organization in missing.order_by("id")[:200]:
        customers.subscribe(organization, now=clock.now())


@shared_task(time_limit=3600)
def write_export(export_id: int) -> None:
    """Go on with an export, and once more later if it takes long."""
    more = jobs.write(
        export_id, selection_of=export_invoices.selection, tell=export_letters.tell_ready, clock=clock.now
    )
    if more:
        queueing.send(write_export, export_id)


@shared_task
def continue_exports() -> None:
    """Take up exports that were not queued, or whose worker is gone."""
    for export_id in jobs.abandoned(limit=50):
        queueing.send(write_export, export_id)


@shared_task
def tell_of_rules() -> None:
    """Write to the customers whom new outcome rules concern, and of those that are taken back."""
    rule_letters.tell(now=clock.now())
    rule_letters.tell_of_ends(now=clock.now())


@shared_task
def tell_of_prices() -> None:
    """Write to the customers whom new prices concern, and of those that are taken back."""
    price_letters.tell(now=clock.now())
    price_letters.tell_of_ends(now=clock.now())
