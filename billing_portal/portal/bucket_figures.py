"""What the pages say of buckets: how much of each is left, what became of the rest, and what is on offer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from django.db.models import Sum
from django.db.models.functions import TruncDate

from accounts.models import Organization
from billing_portal.billing import bucket_offers
from billing_portal.billing.models import BucketOffer
from billing_portal.ledger import runway
from billing_portal.ledger.models import Bucket, BucketEntry
from billing_portal.ledger.runway import Runway
from billing_portal.portal.charts import bucket_chart
from billing_portal.portal.charts.bucket_chart import BucketChart
from usage import periods
from usage.models import OutcomeType
from usage.money import round_half_up
from usage.outcomes import rules

Kind = BucketEntry.Kind


@dataclass(frozen=True, slots=True)
class Held:
    """One bucket, and what became of its units by kind of entry, positive into it."""

    bucket: Bucket
    moved: dict[str, int]
    now: datetime

    @property
    def noun(self) -> str:
        return self.bucket.noun

    @property
    def used_units(self) -> int:
        """Units that paid for outcomes and did not come back."""
        return -self.moved.get(Kind.USED, 0) - self.moved.get(Kind.RETURNED, 0)

    @property
    def expired_units(self) -> int:
        """Units that were never used: expired, or about to be taken out by the hourly sweep."""
        return -self.moved.get(Kind.EXPIRED, 0) + (self.bucket.remaining_units if self.is_over else 0)

    @property
    def expired_micros(self) -> int:
        """What the units that were never used had cost: breakage."""
        return round_half_up(self.bucket.price_micros * self.expired_units, self.bucket.size)

    @property
    def left_units(self) -> int:
        """Units that can still be used."""
        return 0 if self.is_over else self.bucket.remaining_units

    @property
    def claimed_units(self) -> int:
        """Units that were taken out because their payment is disputed or went back."""
        return self.bucket.claimed_units

    @property
    def is_over(self) -> bool:
        return self.bucket.expires_at <= self.now

    @property
    def is_open(self) -> bool:
        """Say whether it has something left that can be used, now or once its term begins."""
        return self.left_units > 0

    @property
    def days_left(self) -> int:
        """Whole days until the end of its term."""
        return max(0, (self.bucket.expires_at - self.now).days)


@dataclass(frozen=True, slots=True)
class Tier:
    """One offer beside the list price of what it pays for; without a list price nothing is compared."""

    offer: BucketOffer
    list_micros: int | None

    @property
    def saved_micros(self) -> int:
        """What its units would cost more at list price; 0 if they would not."""
        return max(0, self.offer.size * (self.list_micros or 0) - self.offer.price_micros)

    @property
    def at_list_micros(self) -> int:
        return self.offer.size * (self.list_micros or 0)

    @property
    def covers(self) -> str:
        """What it pays for, as a sentence names it."""
        return ", ".join(str(OutcomeType(each).label).lower() for each in self.offer.outcomes)


def held(organization: Organization, *, now: datetime) -> list[Held]:
    """Return the organization's buckets in the order they are used, those that are over or empty as well."""
    found = Bucket.objects.filter(organization=organization).order_by("expires_at", "created_at", "id")
    return with_movements(list(found), now=now)


def with_movements(found: Sequence[Bucket], *, now: datetime) -> list[Held]:
    """Return buckets of one organization with the sums of their entries."""
    moved: dict[int, dict[str, int]] = {bucket.pk: {} for bucket in found}
    if found:
        entries = BucketEntry.objects.filter(organization_id=found[0].organization_id, bucket__in=list(moved))
        for bucket_id, kind, units in entries.order_by().values_list("bucket", "kind").annotate(Sum("units")):
            moved[bucket_id][kind] = units
    return [Held(bucket, moved[bucket.pk], now) for bucket in found]


@dataclass(frozen=True, slots=True)
class Course:
    """How a bucket is used: its curve, and how long it lasts; no runway for one whose turn has not come, or is over."""

    chart: BucketChart
    runway: Runway | None
    waits_for: Bucket | None


def course(one: Held, organization: Organization, *, now: datetime) -> Course:
    """Return the curve of a bucket over its term, by days of the organization's zone."""
    bucket, zone = one.bucket, organization.zone
    starts_on = periods.day_of(max(bucket.starts_at, bucket.created_at), zone)
    ends_on, today = periods.day_of(bucket.expires_at, zone), periods.day_of(now, zone)
    moved, used = _by_day(bucket, zone)
    before = _before(bucket, now=now)
    projected = (
        None
        if before or one.is_over or bucket.starts_at > now
        else runway.of_bucket(used, left=one.left_units, today=today, ends_on=ends_on)
    )
    drawn = bucket_chart.of_term(
        moved,
        noun=bucket.noun,
        size=bucket.size,
        starts_on=starts_on,
        ends_on=max(ends_on, starts_on + timedelta(days=1)),
        today=today,
        runway=projected,
    )
    return Course(drawn, projected, before)


def _by_day(bucket: Bucket, zone: tzinfo) -> tuple[dict[date, int], dict[date, int]]:
    """Return the units that left a bucket and came back, negative when they left, and those used, net, by day."""
    entries = BucketEntry.objects.filter(organization_id=bucket.organization_id, bucket=bucket)
    left = entries.exclude(kind=Kind.BOUGHT).exclude(kind=Kind.CARRIED, units__gt=0)
    days = left.annotate(day=TruncDate("occurred_at", tzinfo=zone)).order_by().values_list("day", "kind")
    moved: Counter[date] = Counter()
    used: Counter[date] = Counter()
    for day, kind, units in days.annotate(Sum("units")):
        moved[day] += units
        if kind in (Kind.USED, Kind.RETURNED):
            used[day] -= units
    return dict(moved), dict(used)


def _before(bucket: Bucket, *, now: datetime) -> Bucket | None:
    """Return the bucket that is used before this one, if one is."""
    first = (
        Bucket.objects.filter(
            organization_id=bucket.organization_id,
            remaining_units__gt=0,
            expires_at__gt=now,
            starts_at__lte=now,
            outcomes__overlap=bucket.outcomes,
        )
        .order_by("expires_at", "created_at", "id")
        .first()
    )
    if first is None or bucket.expires_at <= now:
        return None
    comes_first = (first.expires_at, first.created_at, first.pk) < (bucket.expires_at, bucket.created_at, bucket.pk)
    return first if comes_first else None


def tiers(organization: Organization, *, now: datetime) -> list[Tier]:
    """Return what is on sale to the organization, beside its list prices."""
    prices = list_prices(organization, now=now)
    return [Tier(offer, list_price(offer, prices)) for offer in bucket_offers.on_sale(organization.currency, now=now)]


def list_prices(organization: Organization, *, now: datetime) -> dict[str, int]:
    """Return what an outcome of each type costs now without a bucket, in micros."""
    version = rules.current([organization.pk])[organization.pk].at(now)
    return dict(version.prices) if version else {}


def list_price(offer: BucketOffer, prices: dict[str, int]) -> int | None:
    """Return the list price of a unit; of several types the lowest, so that nothing is promised that may not be."""
    known = [prices[each] for each in offer.outcomes if prices.get(each)]
    return min(known) if len(known) == len(offer.outcomes) else None
