"""Stripe's billing periods: which of them carries a month.

Every subscription is anchored on day 1 at 12:00 UTC, when every zone's month has ended. So the usage of month M is
reported into Stripe's period [day 1 of M 12:00, day 1 of M+1 12:00), and the invoice drafted at its end is M's.
"""

from datetime import UTC, date, datetime, time, timedelta

from usage import periods

ANCHOR = time(12, tzinfo=UTC)


def bounds(month: date) -> tuple[datetime, datetime]:
    """Return the half-open period of Stripe that carries the usage of `month` (its first day)."""
    return datetime.combine(month, ANCHOR), datetime.combine(periods.next_month(month), ANCHOR)


def month_at(instant: datetime) -> date:
    """Return the month whose period of Stripe contains `instant`."""
    shifted = instant.astimezone(UTC) - timedelta(hours=ANCHOR.hour)
    return shifted.date().replace(day=1)


def month_ended_by(instant: datetime) -> date:
    """Return the last month whose period has ended at `instant`."""
    return (month_at(instant) - timedelta(days=1)).replace(day=1)


def month_ending_at(period_end: datetime) -> date:
    """Return the month whose period ends at `period_end`, the instant at which a cycle invoice is drafted."""
    return month_at(period_end - timedelta(microseconds=1))
