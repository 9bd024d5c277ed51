"""Which bucket would have been the cheapest for a year of outcomes: each offer played through day by day. Pure.

A bucket is taken to have been bought on the first day. Within a day charges come before reversals, and a reversal gives
back a unit first, then money: as near to the ledger's own order as days allow. What is beyond costs its list price.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from billing_portal.billing.models import BucketOffer

YEAR_DAYS = 365
LEAST_DAYS = 14
TERM_MONTHS = 12


@dataclass(frozen=True, slots=True, order=True)
class Used:
    """Outcomes of one type and list price on one day; a negative count was taken back."""

    day: date
    outcome: str
    list_micros: int
    count: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What the year would have cost with so many buckets of one offer; without an offer, at list price alone."""

    offer: BucketOffer | None
    buckets: int
    covered_units: int
    unused_units: int
    bucket_micros: int
    beyond_micros: int

    @property
    def total_micros(self) -> int:
        return self.bucket_micros + self.beyond_micros


def plans(year: Sequence[Used], offers: Iterable[BucketOffer]) -> list[Plan]:
    """Return every offer of a year's term in its best number, and going without, the cheapest first.

    Of two that cost the same the one that binds less comes first.
    """
    found = [_play(year, None, 0)]
    for offer in offers:
        if offer.term_months == TERM_MONTHS:
            found.append(min((_play(year, offer, number) for number in _numbers(year, offer)), key=_rank))
    return sorted(found, key=_rank)


def as_a_year(used: Iterable[Used], *, today: date) -> tuple[list[Used], int]:
    """Return the last 365 whole days, and how many of them are known.

    Where there are fewer, those there are come again and again, so that weekdays and busy days keep their part.
    """
    first = today - timedelta(days=YEAR_DAYS)
    within = sorted(each for each in used if first <= each.day < today)
    if not within:
        return [], 0
    known = (today - within[0].day).days
    repeated = [
        Used(each.day - timedelta(days=known * turn), each.outcome, each.list_micros, each.count)
        for turn in range(-(-YEAR_DAYS // known))
        for each in within
    ]
    return sorted(each for each in repeated if each.day >= first), known


def _numbers(year: Sequence[Used], offer: BucketOffer) -> set[int]:
    """Return how many buckets of an offer are worth a look: those that cover all, and one less."""
    needed = max(0, sum(each.count for each in year if each.outcome in offer.outcomes))
    return {max(1, needed // offer.size), max(1, -(-needed // offer.size))}


def _play(year: Sequence[Used], offer: BucketOffer | None, number: int) -> Plan:
    left = covered = beyond = 0
    if offer is not None:
        left = offer.size * number
    for each in sorted(year, key=lambda used: (used.day, used.count < 0, used.outcome, used.list_micros)):
        is_covered = offer is not None and each.outcome in offer.outcomes
        units = min(each.count, left) if is_covered else 0
        if is_covered and each.count < 0:
            units = -min(-each.count, covered)
        left -= units
        covered += units
        beyond += (each.count - units) * each.list_micros
    return Plan(
        offer=offer,
        buckets=number,
        covered_units=covered,
        unused_units=left,
        bucket_micros=offer.price_micros * number if offer else 0,
        beyond_micros=max(0, beyond),
    )


def _rank(plan: Plan) -> tuple[int, int, int]:
    return plan.total_micros, plan.buckets, plan.offer.size if plan.offer else 0
