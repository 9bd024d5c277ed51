"""Days and months as a time zone sees them. A month is named by its first day; spans are half-open."""

import calendar
from datetime import UTC, date, datetime, time, timedelta, tzinfo


def day_of(instant: datetime, zone: tzinfo) -> date:
    """Return the day of an aware `instant` in `zone`."""
    return instant.astimezone(zone).date()


def month_of(instant: datetime, zone: tzinfo) -> date:
    """Return the first day of the month in which an aware `instant` falls in `zone`."""
    return day_of(instant, zone).replace(day=1)


def next_month(month: date) -> date:
    """Return the first day of the month after that of `month`."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def previous_month(month: date) -> date:
    """Return the first day of the month before that of `month`."""
    return (month.replace(day=1) - timedelta(days=1)).replace(day=1)


def starts_at(day: date, zone: tzinfo) -> datetime:
    """Return the UTC instant at which `day` begins in `zone`.

    That is its midnight; where the clocks are put forward at midnight, the instant at which they jump.
    """
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def bounds(month: date, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return the half-open [starts_at, ends_at) of a month, in UTC. A call at ends_at belongs to the next."""
    return starts_at(month.replace(day=1), zone), starts_at(next_month(month), zone)


def months_after(instant: datetime, months: int, zone: tzinfo) -> datetime:
    """Return the UTC instant that many months later, at the same time of the same day in `zone`.

    A month without that day gives its last: a year from 29 February is 28 February.
    """
    local = instant.astimezone(zone)
    year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
    day = min(local.day, calendar.monthrange(year, month + 1)[1])
    return local.replace(year=year, month=month + 1, day=day).astimezone(UTC)


def comparable(starts_on: date, ends_on: date) -> tuple[date, date]:
    """Return the first and the last of the days to compare days with: the same of the month before, or as many before.

    Days of one month from its first on are compared with those of the previous month, all of them with all of it;
    others with as many right before them.
    """
    if starts_on.day != 1 or ends_on >= next_month(starts_on):
        day = timedelta(days=1)
        return starts_on - day - (ends_on - starts_on), starts_on - day
    first, last = previous_month(starts_on), starts_on - timedelta(days=1)
    is_whole = ends_on == next_month(starts_on) - timedelta(days=1)
    return first, last if is_whole else min(first + (ends_on - starts_on), last)
