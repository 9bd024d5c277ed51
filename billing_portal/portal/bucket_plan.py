"""The planner's page: a year of the organization's outcomes, and what it would have cost with each bucket."""

from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Sum

from accounts.models import Organization
from billing_portal.billing import bucket_offers, bucket_planner
from billing_portal.billing.bucket_planner import LEAST_DAYS, YEAR_DAYS, Plan, Used
from usage import periods
from usage.models import DailyOutcomes, OutcomeCharge, OutcomePrice


def of(organization: Organization, *, now: datetime) -> dict[str, Any]:
    """Return the plans, the cheapest first, and how many days of outcomes they rest on; none for too few."""
    today = periods.day_of(now, organization.zone)
    year, known_days = bucket_planner.as_a_year(_used(organization, today), today=today)
    is_enough = known_days >= LEAST_DAYS
    offers = bucket_offers.on_sale(organization.currency, now=now)
    plans = bucket_planner.plans(year, offers) if is_enough else []
    without = next((plan.total_micros for plan in plans if plan.offer is None), 0)
    return {
        "known_days": known_days,
        "least_days": LEAST_DAYS,
        "is_whole_year": known_days >= YEAR_DAYS,
        "starts_on": today - timedelta(days=min(known_days, YEAR_DAYS)),
        "ends_on": today - timedelta(days=1),
        "outcomes": sum(each.count for each in year),
        "plans": [(plan, _saved(plan, without)) for plan in plans],
        "without_micros": without,
        "is_sold": bool(offers),
        "currency": organization.currency,
    }


def _saved(plan: Plan, without_micros: int) -> int:
    return without_micros - plan.total_micros


def _used(organization: Organization, today: date) -> list[Used]:
    """Return the settled outcomes of the last year by day, type and list price; reversals count against them."""
    rows = DailyOutcomes.objects.filter(
        organization=organization, day__gte=today - timedelta(days=YEAR_DAYS), day__lt=today
    )
    sums = rows.order_by().values_list("day", "outcome", "rules", "kind").annotate(Sum("outcomes"))
    found = list(sums)
    prices = {
        (rules, outcome): micros
        for rules, outcome, micros in OutcomePrice.objects.filter(
            version__in={rules for _, _, rules, _, _ in found}
        ).values_list("version", "outcome", "price_micros")
    }
    counts: Counter[tuple[date, str, int, bool]] = Counter()
    for day, outcome, rules, kind, count in found:
        is_back = kind == OutcomeCharge.Kind.REVERSAL
        counts[day, outcome, prices.get((rules, outcome), 0), is_back] += -count if is_back else count
    return [Used(day, outcome, micros, count) for (day, outcome, micros, _), count in counts.items()]
