"""A bucket whose payment is disputed or went back: the ledger follows, the customer is told, and it renews no more."""

from datetime import datetime

from accounts import letters
from billing_portal.billing import bucket_renewal_orders, purchase_letters
from billing_portal.billing.models import Purchase
from billing_portal.ledger import bucket_claims as books
from billing_portal.ledger.bucket_claims import Change
from billing_portal.ledger.models import Bucket


def follow(
    purchase: Purchase, bucket: Bucket, *, claimed_micros: int, held_micros: int, reason: str, now: datetime
) -> None:
    """Hold the units that a purchase bought to what its payment still is, under the account's lock.

    Once nothing of the payment is certain, the standing order to renew the bucket ends: no card is charged by itself
    while its bank disputes a charge. Raises what the ledger raises.
    """
    changed = books.follow(
        bucket=bucket,
        paid_micros=purchase.amount_micros,
        claimed_micros=claimed_micros,
        held_micros=held_micros,
        reason=reason,
        now=now,
    )
    if changed is None:
        return
    _tell(purchase, bucket, changed, now=now)
    order = bucket_renewal_orders.in_force(bucket) if changed.claim.is_whole else None
    if order is not None and bucket_renewal_orders.end(order, reason=reason, now=now):
        purchase_letters.tell_renewal_ended(order, f"{reason}.", now=now)


def is_touched(bucket: Bucket) -> bool:
    """Say whether some of the bucket's payment went back or is disputed: no larger one is sold in its place."""
    return books.of(bucket) is not None


def is_void(bucket: Bucket) -> bool:
    """Say whether nothing of the bucket's payment is certain: it is not renewed."""
    claim = books.of(bucket)
    return claim is not None and claim.is_whole


def _tell(purchase: Purchase, bucket: Bucket, changed: Change, *, now: datetime) -> None:
    bucket.refresh_from_db()
    claim = changed.claim
    letters.write(
        template="emails/bucket_claimed",
        reference=f"bucket_claimed:{claim.pk}:{claim.changes}",
        to=letters.billing_addresses(purchase.organization),
        organization=purchase.organization,
        bucket=bucket,
        claim=claim,
        is_held=claim.held_units > claim.claimed_units,
        taken_units=max(0, changed.units),
        returned_units=max(0, -changed.units),
        debt_micros=max(0, changed.debt_micros),
        released_micros=max(0, -changed.debt_micros),
        now=now,
    )
