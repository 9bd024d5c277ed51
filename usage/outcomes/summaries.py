"""What some days' outcomes came to, from the rollup: how many of each type, on which basis, and who paid."""

from datetime import date
from typing import NamedTuple

from django.db.models import Q, Sum
from django.db.models.functions import Coalesce

from usage.models.outcomes import Conversation, DailyOutcomes, OutcomeCharge, OutcomeType
from usage.outcomes.judging import Reason

Kind = OutcomeCharge.Kind


class Summary(NamedTuple):
    """The settled outcomes of one type: `confirmed` and `assumed` are all there were, `by_bucket` are among them.

    `reversed` were taken back on these days, whenever they were charged. `amount_micros` was paid in money.
    """

    outcome: str
    confirmed: int
    assumed: int
    by_bucket: int
    amount_micros: int
    reversed: int

    @property
    def outcomes(self) -> int:
        return self.confirmed + self.assumed

    @property
    def in_money(self) -> int:
        return self.outcomes - self.by_bucket


def of_days(organization_id: int, *, starts_on: date, ends_on: date) -> list[Summary]:
    """Return the types that were settled or taken back on the days, both included, in the order of types."""
    charged = Q(kind=Kind.CHARGE)
    assumed = Q(reason=Reason.ASSUMED)

    def count(of: Q) -> Coalesce:
        return Coalesce(Sum("outcomes", filter=of), 0)

    rows = DailyOutcomes.objects.filter(organization_id=organization_id, day__range=(starts_on, ends_on))
    sums = rows.order_by("outcome").values_list("outcome")
    counted = sums.annotate(
        confirmed=count(charged & ~assumed),
        assumed=count(charged & assumed),
        buckets=count(charged & Q(by_bucket=True)),
        micros=Coalesce(Sum("amount_micros", filter=charged), 0),
        undone=count(Q(kind=Kind.REVERSAL)),
    )
    found = {outcome: Summary(outcome, *map(int, counts)) for outcome, *counts in counted}
    return [found[outcome] for outcome in OutcomeType.values if outcome in found]


def by_day(organization_id: int, *, starts_on: date, ends_on: date) -> dict[tuple[date, str], int]:
    """Return how many outcomes were settled of each (day, type)."""
    rows = DailyOutcomes.objects.filter(
        organization_id=organization_id, day__range=(starts_on, ends_on), kind=Kind.CHARGE
    )
    sums = rows.order_by("day", "outcome").values_list("day", "outcome").annotate(Sum("outcomes"))
    return {(day, outcome): int(outcomes) for day, outcome, outcomes in sums}


def micros_by_day(organization_id: int, *, starts_on: date, ends_on: date) -> dict[date, int]:
    """Return what the outcomes of each day cost in money; days without any are absent."""
    rows = DailyOutcomes.objects.filter(
        organization_id=organization_id, day__range=(starts_on, ends_on), amount_micros__gt=0
    )
    return {day: int(micros) for day, micros in rows.order_by("day").values_list("day").annotate(Sum("amount_micros"))}


def waiting(organization_id: int) -> int:
    """Return how many conversations have an outcome that is not charged yet: most wait for the silence to last."""
    return Conversation.objects.filter(organization_id=organization_id, due_at__isnull=False).count()
