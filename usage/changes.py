"""The change of usage from one span of days, or one billed month, to another, read from the daily cube alone."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.db import connection

from usage import causes, periods
from usage.causes import Explanation, Period, Priced


@dataclass(frozen=True, slots=True)
class Span:
    """Days, both included, or, with `billed_month`, what was billed in it, late calls of earlier days too."""

    starts_on: date
    ends_on: date
    billed_month: date | None = None

    @classmethod
    def of_month(cls, month: date) -> "Span":
        """Return what is billed in the month that begins on `month`."""
        return cls(month, periods.next_month(month) - timedelta(days=1), month)

    @property
    def days(self) -> int:
        return (self.ends_on - self.starts_on).days + 1


def between(organization_id: int, before: Span, after: Span) -> Explanation:
    """Return why the organization's settled usage of `after` costs more or less than that of `before`."""
    return causes.explain(usage_of(organization_id, before), usage_of(organization_id, after))


def so_far(today: date) -> tuple[Span, Span]:
    """Return the days of the month before `today`, and the same days of the previous month before them.

    Today is not over, so it is left out, but on the first of a month.
    """
    ends_on = max(today - timedelta(days=1), today.replace(day=1))
    after = Span(ends_on.replace(day=1), ends_on)
    return before(after), after


def before(span: Span) -> Span:
    """Return the days to compare days with, as `periods.comparable` says."""
    return Span(*periods.comparable(span.starts_on, span.ends_on))


_TOTALS = """
    SELECT coalesce(sum(calls), 0)::bigint, coalesce(sum(duration_ms), 0)::bigint, coalesce(sum(llm_tokens), 0)::bigint
    FROM usage_dailyusage WHERE organization_id = %s AND {days}"""

# Cells of a mix are added up before they are cut into lines.
_PRICED = """
    SELECT r.component, r.product, r.unit, r.rate_micros,
           ARRAY[r.minimum_ms, r.increment_ms, v.grace_ms, v.free_ms,
                 CASE r.unit WHEN 'surcharge' THEN v.token_threshold ELSE 0 END],
           sum(cell.calls)::bigint, sum(cell.duration_ms)::bigint, sum(cell.llm_tokens)::bigint,
           sum(cell.micros)::bigint
    FROM (
        SELECT d.mix_id, line.place, sum(d.calls) AS calls, sum(d.duration_ms) AS duration_ms,
               sum(d.llm_tokens) AS llm_tokens, sum(coalesce(line.micros, 0)) AS micros
        FROM usage_dailyusage d, unnest(d.line_micros) WITH ORDINALITY AS line (micros, place)
        WHERE d.organization_id = %s AND {days}
        GROUP BY d.mix_id, line.place) AS cell
    JOIN usage_productmix m ON m.id = cell.mix_id
    JOIN usage_pricerate r ON r.id = m.rate_ids[cell.place]
    JOIN usage_priceversion v ON v.id = r.version_id
    GROUP BY r.id, v.id ORDER BY r.id"""


def usage_of(organization_id: int, span: Span) -> Period:
    """Return the settled usage of a span."""
    days, values = "date BETWEEN %s AND %s", [span.starts_on, span.ends_on]
    if span.billed_month:
        days, values = "billed_month = %s", [span.billed_month]
    named: list[Any] = [organization_id, *values]
    with connection.cursor() as cursor:
        cursor.execute(_TOTALS.format(days=days), named)
        calls, duration_ms, llm_tokens = cursor.fetchone()
        cursor.execute(_PRICED.format(days=days), named)
        rows = cursor.fetchall()
    return Period(
        calls, duration_ms, llm_tokens, tuple(Priced._make((*row[:4], tuple(row[4]), *row[5:])) for row in rows)
    )
