"""Renewing buckets: notice 30 and 7 days before a term ends, and the purchase two days before, unless it was ended.

What the notice tells is what is charged: with it the offer is fixed. Both sweeps are safe at any time and as often as
one likes: a letter's reference and the order's purchase say what was done.
"""

from datetime import datetime, timedelta

import structlog
from django.db import transaction

from accounts import letters
from accounts.models import Letter, Organization, User
from billing_portal.billing import (
    bucket_claims,
    bucket_offers,
    bucket_renewal_orders,
    cards,
    purchase_letters,
    purchases,
)
from billing_portal.billing.models import BucketOffer, BucketRenewal, Purchase
from billing_portal.ledger import accounts
from billing_portal.ledger.models import Bucket

log = structlog.get_logger(__name__)

NOTICE_DAYS = (7, 30)  # the most urgent first
CHARGED_BEFORE = timedelta(days=2)


class RenewalRefused(ValueError):
    """The bucket is over or was not bought here, its payment is disputed or gone, or its offer is no more on sale."""


def offer_for(bucket: Bucket, *, now: datetime) -> BucketOffer | None:
    """Return what a renewal would buy, as far as it is known now; None if nothing is sold under its code then."""
    bought = Purchase.objects.filter(bucket=bucket).select_related("offer").first()
    if bought is None or bought.offer is None:
        return None
    return bucket_offers.in_force(bought.offer.code, bucket.currency, at=max(now, bucket.expires_at - CHARGED_BEFORE))


def is_renewable(bucket: Bucket, *, now: datetime) -> bool:
    """Say whether a bucket is one to be renewed, as long as its offer is on sale."""
    return bucket.expires_at > now and not bucket.replaced_by.exists() and not bucket_claims.is_void(bucket)


def switch_on(bucket: Bucket, *, user: User, now: datetime) -> BucketRenewal:
    """Have the bucket renewed. Raises RenewalRefused, and purchases.CardNeeded where no card could be charged."""
    offer = offer_for(bucket, now=now)
    if offer is None or not is_renewable(bucket, now=now):
        raise RenewalRefused(bucket)
    if not cards.has_usable_card(bucket.organization):
        raise purchases.CardNeeded
    return bucket_renewal_orders.accept(bucket, offer, user=user, now=now)


def switch_off(bucket: Bucket, *, user: User, now: datetime) -> Purchase | None:
    """End the renewal; return the purchase that is given up with it, if one was not paid yet."""
    order = bucket_renewal_orders.in_force(bucket)
    if order is None:
        return None
    bucket_renewal_orders.end(order, user=user, now=now)
    under_way = order.purchases.filter(state__in=Purchase.OPEN).first()
    if under_way is not None:
        purchases.give_up(under_way, now=now)
    return under_way


def notify(*, now: datetime, limit: int = 500) -> int:
    """Write the notices that are due, of renewals and of terms that end without one; return how many letters."""
    far = now + timedelta(days=max(NOTICE_DAYS) + 1)
    ending = Bucket.objects.filter(expires_at__gt=now, expires_at__lte=far, starts_at__lte=now, replaced_by=None)
    ending = ending.exclude(organization__status=Organization.Status.CLOSED).select_related("organization")
    return sum(_notify(bucket, now=now) for bucket in ending.order_by("expires_at", "id")[:limit])


def buy_due(*, now: datetime, limit: int = 200) -> list[Purchase]:
    """Ask for the renewals that are due; each is charged by the walk of purchases."""
    due = BucketRenewal.objects.filter(ended_at=None, bucket__expires_at__lte=now + CHARGED_BEFORE, purchases=None)
    due = due.exclude(organization__account__frozen_at__isnull=False)
    found = due.select_related("organization", "bucket", "offer").order_by("bucket__expires_at", "id")[:limit]
    return [purchase for order in found if (purchase := _buy_safely(order, now=now)) is not None]


def _notify(bucket: Bucket, *, now: datetime) -> int:
    days_left = -(-(bucket.expires_at - now) // timedelta(days=1))
    notice = next((each for each in NOTICE_DAYS if days_left <= each), None)
    order = bucket_renewal_orders.in_force(bucket)
    if notice is None or (order is None and not bucket.remaining_units):
        return 0
    reference = f"bucket_{'renews' if order else 'ends'}:{bucket.pk}:{notice}"
    if Letter.objects.filter(reference=reference).exists():
        return 0
    if order is not None and not _fix_offer(order, now=now):
        return 0
    return letters.write(
        template="emails/bucket_renews" if order else "emails/bucket_ends",
        reference=reference,
        to=letters.billing_addresses(bucket.organization),
        organization=bucket.organization,
        bucket=bucket,
        order=order,
        charged_at=bucket.expires_at - CHARGED_BEFORE,
        has_card=cards.has_usable_card(bucket.organization),
        days_left=days_left,
        now=now,
    )


def _fix_offer(order: BucketRenewal, *, now: datetime) -> bool:
    """Settle what will be bought, once; False, and the order ends, if it is no more on sale."""
    if order.told_at is not None:
        return True
    offer = offer_for(order.bucket, now=now)
    if offer is None:
        _end(order, "This bucket is no more on sale.", now=now)
        return False
    order.offer, order.told_at = offer, now
    order.save(update_fields=["offer", "told_at"])
    return True


def _buy_safely(order: BucketRenewal, *, now: datetime) -> Purchase | None:
    """Ask for one renewal; one that fails is logged, comes again, and holds up no other (F24)."""
    try:
        return _buy(order, now=now)
    except Exception:
        log.exception("renewal failed", organization_id=order.organization_id, renewal_id=order.pk)
        return None


def _buy(order: BucketRenewal, *, now: datetime) -> Purchase | None:
    with transaction.atomic():
        accounts.lock(order.organization_id)
        standing = BucketRenewal.objects.select_related("organization", "bucket", "offer").filter(
            pk=order.pk, ended_at=None, purchases=None
        )
        found = standing.first()
        if found is None or purchases.open_purchase(found.organization, Purchase.Origin.RENEWAL) is not None:
            return None
        if not _fix_offer(found, now=now):
            return None
        if not cards.has_usable_card(found.organization):
            _end(found, "There is no card to charge.", now=now)
            return None
        return purchases.ask_for_renewal(found, now=now)


def _end(order: BucketRenewal, reason: str, *, now: datetime) -> None:
    if bucket_renewal_orders.end(order, reason=reason, now=now):
        purchase_letters.tell_renewal_ended(order, reason, now=now)
