"""Standing orders to renew a bucket: accepting one, ending it, and taking it over to the bucket that follows."""

from datetime import datetime

import structlog
from django.conf import settings
from django.db import transaction

from accounts.models import User
from billing_portal.billing.models import BucketOffer, BucketRenewal
from billing_portal.ledger import accounts
from billing_portal.ledger.models import Bucket

log = structlog.get_logger(__name__)

# A changed text is a new version: what was accepted is kept word for word.
MANDATE_VERSION = "2026-11"
_MANDATE = (
    "I authorize {vendor} to charge the default payment method of {organization} for the same bucket again, at the "
    "price then on sale, two days before its term ends. I am told the price 30 and 7 days before, and can end this at "
    "any time until then."
)


def mandate_for(organization_name: str) -> str:
    """Return what a person accepts with a renewal."""
    return _MANDATE.format(vendor=settings.VENDOR_NAME, organization=organization_name)


def in_force(bucket: Bucket) -> BucketRenewal | None:
    """Return the order that renews a bucket, or None."""
    orders = BucketRenewal.objects.filter(organization_id=bucket.organization_id, bucket=bucket, ended_at=None)
    return orders.select_related("offer", "accepted_by").first()


def accept(bucket: Bucket, offer: BucketOffer, *, user: User, now: datetime) -> BucketRenewal:
    """Put an order in force for a bucket; one that is in force stays as it is."""
    with transaction.atomic():
        account = accounts.lock(bucket.organization_id)
        before = in_force(bucket)
        if before is not None:
            return before
        order = BucketRenewal.objects.create(
            organization_id=bucket.organization_id,
            bucket=bucket,
            offer=offer,
            mandate_version=MANDATE_VERSION,
            mandate_text=mandate_for(account.organization.name),
            accepted_by=user,
            accepted_at=now,
        )
    log.info("renewal ordered", organization_id=bucket.organization_id, bucket_id=bucket.pk, user_id=user.pk)
    return order


def follow(order: BucketRenewal, bucket: Bucket, *, now: datetime) -> BucketRenewal:
    """Let the bucket that was bought by an order be renewed as well, as it was accepted; the order itself has ended."""
    end(order, reason="Renewed.", now=now)
    following, _ = BucketRenewal.objects.get_or_create(
        organization_id=bucket.organization_id,
        bucket=bucket,
        ended_at=None,
        defaults={
            "offer": order.offer,
            "mandate_version": order.mandate_version,
            "mandate_text": order.mandate_text,
            "accepted_by": order.accepted_by,
            "accepted_at": order.accepted_at,
        },
    )
    return following


def end(order: BucketRenewal, *, reason: str = "", user: User | None = None, now: datetime) -> bool:
    """End an order; False for one that had ended, which stays as it is. Also of a frozen account."""
    with transaction.atomic():
        accounts.lock(order.organization_id, even_frozen=True)
        standing = BucketRenewal.objects.filter(pk=order.pk, ended_at=None)
        ends = bool(standing.update(ended_at=now, ended_by=user, ended_reason=reason[:300]))
    if ends:
        log.info("renewal ended", organization_id=order.organization_id, renewal_id=order.pk, reason=reason)
    return ends
