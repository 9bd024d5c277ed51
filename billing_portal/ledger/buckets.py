"""Buckets of outcomes: buying one, taking units in expiry order, and what is left at the end of the term."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.db import transaction
from django.db.models import QuerySet

from billing_portal.ledger import accounts, journal
from billing_portal.ledger.models import Account, Bucket, BucketEntry
from usage.money import round_half_up

log = structlog.get_logger(__name__)

Kind = BucketEntry.Kind


class TermInvalid(ValueError):
    """A bucket holds at least one unit, for a term that ends after it starts, of outcomes that are named."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is bought: so many units of these outcomes, for a term, at a price in micros without tax."""

    outcomes: tuple[str, ...]
    size: int
    price_micros: int
    starts_at: datetime
    expires_at: datetime


def add(organization_id: int, terms: Terms, *, reference: str, now: datetime) -> Bucket:
    """Put a bucket that was paid for into the books, once per `reference`.

    Raises TermInvalid, AccountMissing, or ReferenceReused if the reference names another bucket.
    """
    if terms.size <= 0 or terms.price_micros < 0 or terms.expires_at <= terms.starts_at or not terms.outcomes:
        raise TermInvalid(terms)
    with transaction.atomic():
        account = accounts.lock(organization_id)
        known = Bucket.objects.filter(organization_id=organization_id, reference=reference).first()
        if known is not None:
            _assert_same(known, terms)
            return known
        bucket = _open(account, terms, reference=reference, now=now)
        _enter(bucket, Kind.BOUGHT, terms.size, reference=f"bought:{bucket.pk}", now=now)
    log.info("bucket added", organization_id=organization_id, bucket_id=bucket.pk, units=terms.size)
    return bucket


def upgrade(
    organization_id: int,
    bucket_id: int,
    *,
    units: int,
    price_micros: int,
    reference: str,
    now: datetime,
    lasts_until: datetime | None = None,
) -> Bucket:
    """Put a larger bucket in the place of another, once per `reference`: as if it had been bought at the beginning.

    It has the other's term, holds the `units` that were bought now and what is left of the other, which is carried over
    with what it cost: every unit is in exactly one bucket at any time (F50). A unit that the other had given and gets
    back stays there, and is used first. Where the other is over, nothing is carried, and the new units last until
    `lasts_until`. Raises TermInvalid, AccountMissing, Bucket.DoesNotExist, or ReferenceReused.
    """
    if units <= 0 or price_micros < 0:
        raise TermInvalid(units, price_micros)
    with transaction.atomic():
        account = accounts.lock(organization_id)
        replaced = Bucket.objects.get(organization_id=organization_id, pk=bucket_id)
        known = Bucket.objects.filter(organization_id=organization_id, reference=reference).first()
        if known is not None:
            _assert_same_upgrade(known, replaced, units)
            return known
        carried = replaced.remaining_units if replaced.expires_at > now else 0
        terms = Terms(
            outcomes=tuple(replaced.outcomes),
            size=units + carried,
            price_micros=price_micros + round_half_up(replaced.price_micros * carried, replaced.size),
            starts_at=replaced.starts_at,
            expires_at=replaced.expires_at if replaced.expires_at > now else lasts_until or replaced.expires_at,
        )
        bucket = _open(account, terms, reference=reference, now=now, replaces=replaced)
        _enter(bucket, Kind.BOUGHT, units, reference=f"bought:{bucket.pk}", now=now)
        if carried:
            replaced.remaining_units = 0
            replaced.save(update_fields=["remaining_units"])
            _enter(replaced, Kind.CARRIED, -carried, reference=f"carried:to:{bucket.pk}", now=now)
            _enter(bucket, Kind.CARRIED, carried, reference=f"carried:from:{replaced.pk}:{bucket.pk}", now=now)
    log.info(
        "bucket upgraded", organization_id=organization_id, bucket_id=bucket.pk, units=units, carried_units=carried
    )
    return bucket


def spendable(account: Account) -> QuerySet[Bucket]:
    """Return the buckets with units left, in the order they are used: expiry, creation, id.

    Which of them pays for an outcome depends on when that was decided (`pays_for`).
    """
    left = Bucket.objects.filter(organization_id=account.organization_id, remaining_units__gt=0)
    return left.order_by("expires_at", "created_at", "id")


def pays_for(bucket: Bucket, outcome: str, decided_at: datetime) -> bool:
    """Say whether a unit of the bucket may pay for an outcome decided then: in its term, and one it was bought for."""
    return outcome in bucket.outcomes and bucket.starts_at <= decided_at < bucket.expires_at


def unit_price_micros(bucket: Bucket) -> int:
    """Return what one unit of the bucket cost, rounded half up."""
    return round_half_up(bucket.price_micros, bucket.size)


def move(
    buckets: Iterable[Bucket], reference: str, used: Counter[int], returned: Counter[int], *, now: datetime
) -> None:
    """Write what a settlement took from buckets and gave back, by bucket id; their remainders are moved already."""
    for bucket in buckets:
        for kind, units in ((Kind.USED, -used[bucket.pk]), (Kind.RETURNED, returned[bucket.pk])):
            if units:
                _enter(bucket, kind, units, reference=f"{kind}:{reference}:{bucket.pk}", now=now)
        if used[bucket.pk] or returned[bucket.pk]:
            bucket.save(update_fields=["remaining_units"])


def expire(organization_id: int, *, now: datetime) -> int:
    """Take out what is left of buckets whose term is over; return how many buckets that were.

    What was decided within the term must be settled before, so that it still finds its unit.
    """
    with transaction.atomic():
        accounts.lock(organization_id)
        over = Bucket.objects.filter(organization_id=organization_id, remaining_units__gt=0, expires_at__lte=now)
        expired = list(over.order_by("id"))
        for bucket in expired:
            left, bucket.remaining_units = bucket.remaining_units, 0
            _enter(bucket, Kind.EXPIRED, -left, reference=f"expired:{bucket.pk}:{_entries(bucket)}", now=now)
            bucket.save(update_fields=["remaining_units"])
            log.info("bucket expired", organization_id=organization_id, bucket_id=bucket.pk, units=left)
    return len(expired)


def _open(account: Account, terms: Terms, *, reference: str, now: datetime, replaces: Bucket | None = None) -> Bucket:
    return Bucket.objects.create(
        organization_id=account.organization_id,
        outcomes=sorted(terms.outcomes),
        size=terms.size,
        remaining_units=terms.size,
        price_micros=terms.price_micros,
        currency=account.currency,
        starts_at=terms.starts_at,
        expires_at=terms.expires_at,
        replaces=replaces,
        reference=reference,
        created_at=now,
    )


def _entries(bucket: Bucket) -> int:
    return BucketEntry.objects.filter(organization_id=bucket.organization_id, bucket=bucket).count()


def _enter(bucket: Bucket, kind: Kind, units: int, *, reference: str, now: datetime) -> None:
    BucketEntry.objects.create(
        organization_id=bucket.organization_id,
        bucket=bucket,
        kind=kind,
        units=units,
        reference=reference,
        occurred_at=now,
    )


def _assert_same(known: Bucket, terms: Terms) -> None:
    before = (known.size, known.price_micros, sorted(known.outcomes))
    if known.replaces_id is not None or before != (terms.size, terms.price_micros, sorted(terms.outcomes)):
        raise journal.ReferenceReused(known.reference, before, (terms.size, terms.price_micros, terms.outcomes))


def _assert_same_upgrade(known: Bucket, replaced: Bucket, units: int) -> None:
    bought = known.entries.get(kind=Kind.BOUGHT).units
    if (known.replaces_id, bought) != (replaced.pk, units):
        raise journal.ReferenceReused(known.reference, (known.replaces_id, bought), (replaced.pk, units))
