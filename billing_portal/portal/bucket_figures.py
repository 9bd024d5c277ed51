"""What the pages say of buckets: how much of each is left, what became of the rest, and what is on offer."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Sum

from accounts.models import Organization
from billing_portal.billing import bucket_offers
from billing_portal.billing.models import BucketOffer
from billing_portal.billing.models.buckets import noun_of
from billing_portal.ledger.models import Bucket, BucketEntry
from usage.models import OutcomeType
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
        return noun_of(self.bucket.outcomes)

    @property
    def used_units(self) -> int:
        """Units that paid for outcomes and did not come back."""
        return -self.moved.get(Kind.USED, 0) - self.moved.get(Kind.RETURNED, 0)

    @property
    def expired_units(self) -> int:
        """Units that were never used: expired, or about to be taken out by the hourly sweep."""
        return -self.moved.get(Kind.EXPIRED, 0) + (self.bucket.remaining_units if self.is_over else 0)

    @property
    def left_units(self) -> int:
        """Units that can still be used."""
        return 0 if self.is_over else self.bucket.remaining_units

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
