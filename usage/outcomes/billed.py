"""What of a month's outcomes is billed in money, and each of them: what an invoice line opens into."""

from collections import defaultdict
from datetime import date
from typing import NamedTuple

from django.db.models import F, OuterRef, Prefetch, QuerySet, Subquery, Sum

from usage.models.outcomes import DailyOutcomes, OutcomeCharge, OutcomePrice

Kind = OutcomeCharge.Kind


class AtPrice(NamedTuple):
    """So many outcomes of one type at one price, in micros."""

    outcomes: int
    price_micros: int


def at_prices(organization_id: int, month: date) -> dict[str, list[AtPrice]]:
    """Return what the outcomes billed in a month and paid in money cost each, by type, the dearest last.

    By type, the outcomes times their prices add up to what was settled. What a bucket paid for is not among them.
    """
    listed = OutcomePrice.objects.filter(version_id=OuterRef("rules_id"), outcome=OuterRef("outcome"))
    of_month = DailyOutcomes.objects.filter(
        organization_id=organization_id, billed_month=month, kind=Kind.CHARGE, by_bucket=False, amount_micros__gt=0
    ).annotate(price_micros=Subquery(listed.values("price_micros")))
    sums = of_month.order_by("outcome", "price_micros").values_list("outcome", "price_micros")
    found: dict[str, list[AtPrice]] = defaultdict(list)
    for outcome, price_micros, outcomes in sums.annotate(Sum("outcomes")):
        found[outcome].append(AtPrice(int(outcomes), int(price_micros)))
    return dict(found)


def late_micros(organization_id: int, month: date) -> int:
    """Return what is billed in `month` for outcomes decided on earlier days: they came when their month was closed."""
    rows = DailyOutcomes.objects.filter(organization_id=organization_id, billed_month=month, day__lt=month)
    return int(rows.aggregate(late=Sum("amount_micros"))["late"] or 0)


def of_line(
    organization_id: int, month: date, outcome: str, *, after: int = 0, until: int | None = None, limit: int = 50
) -> list[OutcomeCharge]:
    """Return the month's charges and reversals of one type in the order of settlement, past number `after`.

    Of a charge `reversals` has the one that gave it back, if there is one, whichever month that was; of a reversal
    `reverses` is what it gave back. `until` is the last number asked for.
    """
    of_organization = OutcomeCharge.objects.filter(organization_id=organization_id)
    rows: QuerySet[OutcomeCharge] = of_organization.filter(
        billed_month=month, outcome=outcome, sequence__gt=after
    ).select_related("conversation", "reverses")
    if until is not None:
        rows = rows.filter(sequence__lte=until)
    given_back = Prefetch("reversals", queryset=of_organization.order_by("id"))
    return list(rows.prefetch_related(given_back).order_by(F("sequence"))[:limit])
