"""Calendar arithmetic of billing periods: every boundary is counted from the anchor, never from the last one.

So a subscription anchored on the 31st bills on 28 February and on 31 March.
"""

import calendar
from datetime import UTC, datetime
from typing import Any

SECONDS = {"day": 86400, "week": 7 * 86400}
EXTREMES = {"day": (1, 1), "week": (7, 7), "month": (28, 31), "year": (365, 366)}  # lengths in days


def boundary(anchor: int, interval: str, count: int, index: int) -> int:
    """The instant ``index`` periods after the anchor (before it, if negative)."""
    if interval in SECONDS:
        return anchor + index * count * SECONDS[interval]
    return add_months(anchor, index * count * (12 if interval == "year" else 1))


def add_months(instant: int, months: int) -> int:
    """The same day and time some months on, or the month's last day."""
    start = datetime.fromtimestamp(instant, UTC)
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())


def next_boundary(anchor: int, interval: str, count: int, after: int) -> int:
    """The first boundary later than an instant."""
    shortest, longest = EXTREMES[interval]
    index = (after - anchor) // (count * (longest if after >= anchor else shortest) * 86400)
    while boundary(anchor, interval, count, index) <= after:
        index += 1
    return boundary(anchor, interval, count, index)


def anchor_from_config(now: int, config: dict[str, Any]) -> int:
    """The next instant that has the wanted day of month and time of day (UTC)."""
    start = datetime.fromtimestamp(now, UTC)
    clock = {unit: config.get(unit, getattr(start, unit)) for unit in ("hour", "minute", "second")}
    year, month = start.year, start.month
    for _ in range(24):
        if config.get("month") in {None, month}:
            day = min(config["day_of_month"], calendar.monthrange(year, month)[1])
            candidate = int(datetime(year, month, day, **clock, tzinfo=UTC).timestamp())
            if candidate > now:
                return candidate
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    raise AssertionError("two years hold every day of the year")
