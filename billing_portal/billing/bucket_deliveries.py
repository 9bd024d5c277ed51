"""Giving the bucket that was paid for: what its offer said when it was asked for, from the payment on.

An upgrade gives what the larger offer has in addition, in the place of the smaller bucket; a renewal's term begins when
the one before it ends.
"""

from datetime import datetime

from django.db import transaction

from billing_portal.billing import bucket_renewal_orders
from billing_portal.billing.models import BucketOffer, Purchase
from billing_portal.ledger import accounts, buckets
from billing_portal.ledger.models import Bucket
from usage import periods


def deliver(purchase: Purchase, *, now: datetime) -> Bucket:
    """Put the bucket of a paid purchase into the books, once, and its renewal. Raises what the ledger raises."""
    offer = purchase.offer
    assert offer is not None  # a constraint of the table
    with transaction.atomic():
        accounts.lock(purchase.organization_id)
        if purchase.upgrades is not None:
            bucket = _upgrade(purchase, offer, purchase.upgrades, now=now)
        else:
            bucket = _add(purchase, offer, now=now)
        _renew(purchase, offer, bucket, now=now)
    return bucket


def _add(purchase: Purchase, offer: BucketOffer, *, now: datetime) -> Bucket:
    """Open a bucket of its own; a renewal that is paid in time follows the term before without a gap."""
    starts_at = max(now, purchase.renewal.bucket.expires_at) if purchase.renewal else now
    terms = buckets.Terms(
        outcomes=tuple(offer.outcomes),
        size=offer.size,
        price_micros=purchase.amount_micros,
        starts_at=starts_at,
        expires_at=periods.months_after(starts_at, offer.term_months, purchase.organization.zone),
    )
    return buckets.add(purchase.organization_id, terms, reference=purchase.reference, now=now)


def _upgrade(purchase: Purchase, offer: BucketOffer, replaced: Bucket, *, now: datetime) -> Bucket:
    """Open the larger bucket. Should the term have ended before the payment came in, it lasts as long as was sold."""
    before = Purchase.objects.select_related("offer").get(bucket=replaced).offer
    assert before is not None
    return buckets.upgrade(
        purchase.organization_id,
        replaced.pk,
        units=offer.size - before.size,
        price_micros=purchase.amount_micros,
        reference=purchase.reference,
        now=now,
        lasts_until=now + (replaced.expires_at - purchase.asked_at),
    )


def _renew(purchase: Purchase, offer: BucketOffer, bucket: Bucket, *, now: datetime) -> None:
    if purchase.renewal is not None:
        # Paid after all when it had been ended, the bucket is given, and not renewed.
        if purchase.renewal.ended_at is None:
            bucket_renewal_orders.follow(purchase.renewal, bucket, now=now)
        return
    if purchase.upgrades is not None and (order := bucket_renewal_orders.in_force(purchase.upgrades)) is not None:
        bucket_renewal_orders.end(order, reason="A larger bucket stands in its place.", now=now)
    if purchase.renews and purchase.asked_by is not None:
        bucket_renewal_orders.accept(bucket, offer, user=purchase.asked_by, now=now)
