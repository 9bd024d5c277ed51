"""Months whose calls are put away: their tables are detached, so no list has them, while every sum counts them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

from django.db import connection

from usage import partitions, periods
from usage.models import CallKey
from usage.storage import key_of


class ArchivedMonth(NamedTuple):
    """A month (UTC) whose calls are in no list, and how many of them are settled."""

    month: date
    calls: int


_SETTLED = """
    SELECT date_trunc('month', hour_at, 'UTC')::date AS month, sum(calls)::bigint FROM usage_hourlyusage
    WHERE organization_id = %(organization)s AND hour_at < %(until)s
      AND (%(starts_at)s::timestamptz IS NULL OR hour_at >= %(starts_at)s)
    GROUP BY 1 HAVING sum(calls) > 0 ORDER BY 1"""


def months(organization_id: int, *, starts_at: datetime | None, ends_at: datetime | None) -> Sequence[ArchivedMonth]:
    """Return the months of a span in which the organization has calls that no list shows; None is an open end.

    Months are put away from the oldest on, so a span of recent days costs no look at the sums.
    """
    kept = partitions.months_lately()
    until = _upto(kept)
    if until is None or (starts_at and starts_at >= until):
        return []
    values = {
        "organization": organization_id,
        "starts_at": starts_at,
        "until": min(until, ends_at) if ends_at else until,
    }
    with connection.cursor() as cursor:
        cursor.execute(_SETTLED, values)
        return [ArchivedMonth(month, calls) for month, calls in cursor.fetchall() if month not in kept]


def started_at(organization_id: int, call_id: str) -> datetime | None:
    """Return when a call started whose month is put away; None for one that is at hand, and for an unknown id."""
    found = CallKey.objects.filter(organization_id=organization_id, key=key_of(call_id)).first()
    if found is None or partitions.month_of(found.started_at) in partitions.months_lately():
        return None
    return found.started_at


def _upto(kept: Sequence[date]) -> datetime | None:
    """Return the instant from which on every month has its table, None where none has one."""
    if not kept:
        return None
    first = kept[-1]
    while (earlier := periods.previous_month(first)) in kept:
        first = earlier
    return periods.starts_at(first, UTC)
