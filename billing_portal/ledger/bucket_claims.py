"""The payment of a bucket that is disputed or went back: its units are taken out, and those that were used are owed.

As with credit, nothing here counts events. One is told where the payment stands; what that comes to in units is
compared with what was taken, and the difference is entered (F37, F38). Whole units only, rounded down on the sum of all
that went back: so it never accumulates, and is in the customer's favor. A unit that comes back, from an outcome
that is reversed or from another claim, is looked at anew.
"""

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.db import transaction
from django.db.models import F, Q, Sum

from billing_portal.ledger import accounts, bucket_layers, claims, journal
from billing_portal.ledger.bucket_layers import Share, Vessel
from billing_portal.ledger.models import Account, Bucket, BucketClaim, BucketEntry
from usage.money import round_half_up

log = structlog.get_logger(__name__)

Book, Kind = journal.Book, BucketEntry.Kind


@dataclass(frozen=True, slots=True)
class Standing:
    """What a payment that went back comes to: units to take out (negative: to give back), and units that are owed."""

    units: int
    owed_units: int
    left: dict[int, int]


@dataclass(frozen=True, slots=True)
class Change:
    """What changed: units taken out (negative: given back) and debt in micros (negative: no more owed)."""

    claim: BucketClaim
    units: int
    debt_micros: int


def follow(
    *, bucket: Bucket, paid_micros: int, claimed_micros: int, held_micros: int, reason: str, now: datetime
) -> Change | None:
    """Hold the units that were bought in `bucket` to what their payment still is; return what changed, or None.

    Of the `paid_micros`, `claimed_micros` went back for good; up to `held_micros`, which counts those too, are in doubt
    and freeze units as far as they are there. Raises what `accounts.lock` raises.
    """
    with transaction.atomic():
        account = accounts.lock(bucket.organization_id)
        claim = _claim(bucket, paid_micros)
        claimed = whole_units(claim, claimed_micros)
        held = max(claimed, whole_units(claim, held_micros))
        if (claimed, held) == (claim.claimed_units, claim.held_units):
            return None
        claim.claimed_units, claim.held_units, claim.reason, claim.changed_at = claimed, held, reason[:200], now
        change = _follow(account, claim, now=now)
        if change.units < 0:
            # Units of this payment that come back were used before those of later ones, whose claims find more then.
            look_again(account, [bucket.pk], now=now)
        return change


def preview(*, bucket: Bucket, paid_micros: int, claimed_micros: int, now: datetime) -> Change:
    """Return what would change if so much of the payment had gone back for good by now; nothing is written."""
    known = BucketClaim.objects.filter(organization_id=bucket.organization_id, bucket=bucket).first()
    claim = known or _new(bucket, paid_micros)
    owed_before = claim.owed_units
    claim.claimed_units = max(claim.claimed_units, whole_units(claim, claimed_micros))
    claim.held_units = max(claim.held_units, claim.claimed_units)
    found = _standing(claim, _family(bucket))
    return Change(claim, found.units, _value(claim, found.owed_units) - _value(claim, owed_before))


def look_again(account: Account, bucket_ids: Collection[int], *, now: datetime) -> None:
    """Follow all claims on buckets into which units came back: what stands for no payment does not stay there.

    The caller holds the account's lock.
    """
    if (
        not bucket_ids
        or not BucketClaim.objects.filter(organization_id=account.organization_id, held_units__gt=0).exists()
    ):
        return
    for bucket in Bucket.objects.filter(organization_id=account.organization_id, pk__in=bucket_ids).order_by("id"):
        family = [vessel.id for vessel in _family(bucket)]
        for claim in BucketClaim.objects.filter(bucket__in=family, held_units__gt=0).order_by("id"):
            _follow(account, claim, now=now)


def of(bucket: Bucket) -> BucketClaim | None:
    """Return the claim on the payment of a bucket, if there was one and it still touches some unit."""
    claims_of = BucketClaim.objects.filter(organization_id=bucket.organization_id, bucket=bucket)
    return claims_of.filter(held_units__gt=0).first()


def whole_units(claim: BucketClaim, micros: int) -> int:
    """Return how many whole units a part of the payment bought."""
    return claim.bought_units * min(max(0, micros), claim.paid_micros) // claim.paid_micros


def _claim(bucket: Bucket, paid_micros: int) -> BucketClaim:
    known = BucketClaim.objects.filter(organization_id=bucket.organization_id, bucket=bucket).first()
    if known is not None and known.paid_micros != paid_micros:
        raise journal.ReferenceReused(bucket.reference, known.paid_micros, paid_micros)
    return known or _new(bucket, paid_micros)


def _new(bucket: Bucket, paid_micros: int) -> BucketClaim:
    return BucketClaim(
        organization_id=bucket.organization_id,
        bucket=bucket,
        bought_units=bucket.entries.get(kind=Kind.BOUGHT).units,
        paid_micros=paid_micros,
    )


def _follow(account: Account, claim: BucketClaim, *, now: datetime) -> Change:
    """Enter the difference between what a claim comes to and what was taken for it, under the account's lock."""
    found = _standing(claim, _family(claim.bucket))
    debt = _value(claim, found.owed_units) - claims.micros_posted(account, claim.bucket.reference, Book.RECEIVABLE)
    claim.owed_units = found.owed_units
    claim.changes += 1
    claim.save()
    if found.units:
        _move(claim, found, now=now)
    if debt:
        sides = [journal.Side(Book.RECEIVABLE, -debt), journal.Side(Book.CLAIMED, debt)]
        claims.post_change(account, claim.bucket.reference, sides, claim.reason, now)
    log.warning(
        "bucket claimed", organization_id=claim.organization_id, claim_id=claim.pk, units=found.units, micros=debt
    )
    return Change(claim, found.units, debt)


def _standing(claim: BucketClaim, family: list[Vessel]) -> Standing:
    """Return what a claim comes to: unused units go first, expired ones among them; then used ones are owed."""
    share: Share = bucket_layers.shares(family)[claim.bucket_id]
    taken = sum(vessel.claimed.get(claim.bucket_id, 0) for vessel in family)
    more = claim.held_units - taken
    owed = max(0, claim.claimed_units - (claim.bought_units - share.used))
    if more < 0:
        return Standing(more, owed, {vessel.id: vessel.claimed.get(claim.bucket_id, 0) for vessel in family})
    return Standing(min(more, sum(share.left.values())), owed, share.left)


def _move(claim: BucketClaim, found: Standing, *, now: datetime) -> None:
    """Take units out of the buckets that have them, or put them back where they were taken."""
    wanted = abs(found.units)
    for bucket_id, there in sorted(found.left.items()):
        units = min(wanted, there)
        if not units:
            continue
        wanted -= units
        signed = -units if found.units > 0 else units
        Bucket.objects.filter(pk=bucket_id).update(
            remaining_units=F("remaining_units") + signed, claimed_units=F("claimed_units") - signed
        )
        BucketEntry.objects.create(
            organization_id=claim.organization_id,
            bucket_id=bucket_id,
            kind=Kind.CLAIMED,
            units=signed,
            claim=claim,
            reference=f"claimed:{claim.pk}:{claim.changes}:{bucket_id}",
            occurred_at=now,
        )


def _value(claim: BucketClaim, units: int) -> int:
    return round_half_up(claim.paid_micros * units, claim.bought_units)


def _family(bucket: Bucket) -> list[Vessel]:
    """Return a bucket with all that it replaces or that stand in its place, in the order in which they were opened."""
    links = dict(
        Bucket.objects.filter(organization_id=bucket.organization_id, replaces__isnull=False).values_list(
            "pk", "replaces"
        )
    )
    root = bucket.pk
    while (before := links.get(root)) is not None:
        root = before
    ids = {root}
    for each in sorted(links):  # a bucket is opened after the one that it replaces
        if links[each] in ids:
            ids.add(each)
    return _vessels(bucket.organization_id, ids)


def _vessels(organization_id: int, ids: set[int]) -> list[Vessel]:
    sums: defaultdict[int, Counter[str]] = defaultdict(Counter)
    claimed: defaultdict[int, dict[int, int]] = defaultdict(dict)
    entries = BucketEntry.objects.filter(organization_id=organization_id, bucket__in=ids).order_by()
    came_in = Sum("units", filter=Q(units__gt=0), default=0)
    rows = entries.values_list("bucket", "kind", "claim__bucket").annotate(total=Sum("units"), came_in=came_in)
    for bucket_id, kind, payment, units, came in rows:
        if kind == Kind.CLAIMED:
            claimed[bucket_id][payment] = -units
        else:
            sums[bucket_id][kind] = came if kind == Kind.CARRIED else units
    return [
        Vessel(
            id=bucket.pk,
            bought=sums[bucket.pk][Kind.BOUGHT],
            used=-sums[bucket.pk][Kind.USED] - sums[bucket.pk][Kind.RETURNED],
            remaining=bucket.remaining_units,
            came_from=bucket.replaces_id,
            carried_in=sums[bucket.pk][Kind.CARRIED],
            claimed=claimed[bucket.pk],
        )
        for bucket in Bucket.objects.filter(organization_id=organization_id, pk__in=ids).order_by("id")
    ]
