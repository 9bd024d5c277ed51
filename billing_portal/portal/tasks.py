"""Glue between the broker and onboarding: ids in, one verb, safe twice."""

from celery import shared_task

from accounts import clock
from accounts.models import Organization
from billing_portal.billing import customers


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
