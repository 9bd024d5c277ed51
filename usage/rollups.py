"""Sums over settled calls as they are read: a daily cube by product mix, days by agent, and hours.

`rollup_upkeep` keeps them. Money is what was charged, so a corrected call adds what its revision costs more. Counts,
times and tokens are those of the newest revision: it counts where it belongs, and what it replaces is taken off where
that was counted, in the month in which the revision is billed. A cell may so hold less than nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Sum

from usage.models import DailyAgentUsage, DailyUsage, HourlyUsage, PriceRate


@dataclass(frozen=True, slots=True)
class Total:
    """Settled usage: calls, connected milliseconds, micros."""

    calls: int
    duration_ms: int
    micros: int


@dataclass(frozen=True, slots=True)
class ProductTotal:
    """One product's part: how many calls used it, and micros."""

    component: str
    product: str
    label: str
    calls: int
    micros: int


class Hour(NamedTuple):
    """One hour of the organization's time zone, named by the instant at which it begins."""

    hour_at: datetime
    calls: int
    duration_ms: int
    micros: int


# The lines behind cells of the cube. What is free is charged to no call, and used by all that name it.
_LINES = """
    FROM usage_dailyusage d
    JOIN usage_productmix m ON m.id = d.mix_id
    CROSS JOIN LATERAL unnest(m.rate_ids, d.line_calls, d.line_micros) AS line (rate_id, charged, micros)
    JOIN usage_pricerate r ON r.id = line.rate_id
    CROSS JOIN LATERAL (
        SELECT CASE WHEN r.rate_micros = 0 AND r.unit <> 'surcharge' THEN d.calls ELSE line.charged END AS calls
    ) AS used
    WHERE d.organization_id = %s AND (used.calls <> 0 OR line.micros <> 0)"""


def by_day(organization_id: int, *, starts_on: date, ends_on: date) -> dict[tuple[date, str], int]:
    """Return micros by (day, component); both days are included."""
    query = f"SELECT d.date, r.component, sum(line.micros)::bigint {_LINES} AND d.date BETWEEN %s AND %s GROUP BY 1, 2"
    rows = _rows(query + " ORDER BY 1, 2", [organization_id, starts_on, ends_on])
    return {(day, component): micros for day, component, micros in rows}


def by_product(organization_id: int, *, starts_on: date, ends_on: date) -> list[ProductTotal]:
    """Return each product's part of the days, the dearest first."""
    query = f"""
        SELECT r.component, r.product, sum(used.calls)::bigint, sum(line.micros)::bigint
        {_LINES} AND d.date BETWEEN %s AND %s GROUP BY 1, 2 ORDER BY 4 DESC, 2"""
    labelled = labels()
    return [
        ProductTotal(component, product, labelled.get(product, product), calls, micros)
        for component, product, calls, micros in _rows(query, [organization_id, starts_on, ends_on])
    ]


_TOTAL = """
    SELECT coalesce(sum(calls), 0)::bigint, coalesce(sum(duration_ms), 0)::bigint, coalesce(sum(micros), 0)::bigint
    FROM usage_dailyusage WHERE organization_id = %s AND date BETWEEN %s AND %s"""
_TOTALS_BY_DAY = """
    SELECT date, sum(calls)::bigint, sum(duration_ms)::bigint, sum(micros)::bigint
    FROM usage_dailyusage WHERE organization_id = %s AND ({spans}) GROUP BY date"""


def total(organization_id: int, *, starts_on: date, ends_on: date) -> Total:
    """Return the totals of the days, both included; calls that were never connected count too."""
    ((calls, duration_ms, micros),) = _rows(_TOTAL, [organization_id, starts_on, ends_on])
    return Total(calls, duration_ms, micros)


def totals_by_day(organization_id: int, *spans: tuple[date, date]) -> dict[date, Total]:
    """Return the totals of each day that has usage, of one or several spans (first day, last day), both included."""
    query = _TOTALS_BY_DAY.format(spans=" OR ".join(["date BETWEEN %s AND %s"] * len(spans)))
    rows = _rows(query, [organization_id, *(on for span in spans for on in span)])
    return {on: Total(calls, duration_ms, micros) for on, calls, duration_ms, micros in rows}


def sum_of(totals: Mapping[date, Total], starts_on: date, ends_on: date) -> Total:
    """Return the sum of the days, both included, out of `totals_by_day`."""
    days = [total for on, total in totals.items() if starts_on <= on <= ends_on]
    return Total(
        sum(total.calls for total in days),
        sum(total.duration_ms for total in days),
        sum(total.micros for total in days),
    )


def by_hour(organization_id: int, *, starts_at: datetime, ends_at: datetime) -> list[Hour]:
    """Return the hours that have usage and begin in the half-open span, in order."""
    hours = HourlyUsage.objects.filter(organization_id=organization_id, hour_at__gte=starts_at, hour_at__lt=ends_at)
    rows = hours.order_by("hour_at").values_list("hour_at", "calls", "duration_ms", "micros")
    return [Hour._make(row) for row in rows]


def by_agent(organization_id: int, *, starts_on: date, ends_on: date) -> list[tuple[str, str, Total]]:
    """Return (reference, name, total) of each agent on the days, the dearest first."""
    days = DailyAgentUsage.objects.filter(organization_id=organization_id, date__gte=starts_on, date__lte=ends_on)
    grouped = days.order_by().values_list("agent__reference", "agent__name")
    rows = grouped.annotate(all_calls=Sum("calls"), all_ms=Sum("duration_ms"), all_micros=Sum("micros"))
    return [
        (reference, name, Total(int(calls), int(duration_ms), int(micros)))
        for reference, name, calls, duration_ms, micros in rows.order_by("-all_micros", "agent__reference")
    ]


def component_totals(organization_id: int, month: date) -> dict[str, int]:
    """Return micros by component of what is billed in `month`."""
    query = f"SELECT r.component, sum(line.micros)::bigint {_LINES} AND d.billed_month = %s GROUP BY 1 ORDER BY 1"
    return dict(_rows(query, [organization_id, month]))


def product_totals(organization_id: int, month: date) -> dict[tuple[str, str], int]:
    """Return micros by (component, product) of what is billed in `month`."""
    query = f"SELECT r.component, r.product, sum(line.micros)::bigint {_LINES} AND d.billed_month = %s GROUP BY 1, 2"
    rows = _rows(query, [organization_id, month])
    return {(component, product): micros for component, product, micros in rows}


def component_calls(organization_id: int, month: date) -> dict[str, int]:
    """Return how many calls billed in `month` have a line of each component; one with two of them counts once."""
    query = f"""
        SELECT component, sum(calls)::bigint FROM (
            SELECT d.date, d.mix_id, r.component,
                   CASE WHEN max(used.calls) > 0 THEN max(used.calls) ELSE min(used.calls) END AS calls
            {_LINES} AND d.billed_month = %s GROUP BY 1, 2, 3) AS cell
        GROUP BY 1"""
    return dict(_rows(query, [organization_id, month]))


def late_micros(organization_id: int, month: date) -> int:
    """Return what is billed in `month` for calls of earlier days: they arrived when their own month was closed."""
    rows = DailyUsage.objects.filter(organization_id=organization_id, billed_month=month, date__lt=month)
    return int(rows.aggregate(late=Sum("micros"))["late"] or 0)


def labels() -> dict[str, str]:
    """Return how price books call the products; of several names, one of the newest version."""
    named = PriceRate.objects.exclude(label="").order_by("version_id", "id")
    return dict(named.values_list("product", "label"))


def _rows(query: str, values: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())
