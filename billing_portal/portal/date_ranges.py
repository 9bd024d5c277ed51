"""Ranges of days as an address names them: by dates, or by a name that moves with today; and what they compare with."""

from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from django.http import QueryDict

from usage import periods

_LONGEST = timedelta(days=366)
_DAY = timedelta(days=1)
_EARLIEST = date(2000, 1, 1)
_NAMED: dict[str, tuple[str, Callable[[date], tuple[date, date]]]] = {
    "7d": ("7 days", lambda today: (today - timedelta(days=6), today)),
    "30d": ("30 days", lambda today: (today - timedelta(days=29), today)),
    "month": ("This month", lambda today: (today.replace(day=1), today)),
    "last-month": ("Last month", lambda today: (periods.previous_month(today), today.replace(day=1) - _DAY)),
}


COMPARISONS = (
    ("before", "The days before"),
    ("year", "The same days a year ago"),
    ("days", "As many days from…"),
    ("none", "Nothing"),
)


@dataclass(frozen=True, slots=True)
class Days:
    """Days from `starts_on` to `ends_on`, both included. `name` is empty for days that stay as they are."""

    starts_on: date
    ends_on: date
    name: str = ""

    @property
    def count(self) -> int:
        return (self.ends_on - self.starts_on).days + 1

    @property
    def every(self) -> list[date]:
        return [self.starts_on + timedelta(days=number) for number in range(self.count)]

    @property
    def parameters(self) -> dict[str, str]:
        """What names these days in an address."""
        return {"days": self.name} if self.name else {"from": str(self.starts_on), "to": str(self.ends_on)}


def of(query: QueryDict, today: date, *, default: str = "30d") -> Days:
    """Return the days that an address asks for; never backwards, never in the future, never longer than a year.

    A form sends the name with the dates that it showed: where they are other ones, a person has changed them.
    """
    name = query.get("days", "")
    named = _named(name, today) if name in _NAMED else None
    asked = _asked(query, today)
    if named and asked in (None, (named.starts_on, named.ends_on)):
        return named
    return Days(*asked) if asked else _named(default, today)


def starts_at(days: Days, zone: tzinfo) -> datetime:
    """Return the instant at which the first day begins."""
    return periods.starts_at(days.starts_on, zone)


def ends_at(days: Days, zone: tzinfo) -> datetime:
    """Return the instant at which the last day has ended."""
    return periods.starts_at(days.ends_on + _DAY, zone)


def options(days: Days, today: date, address: Callable[[dict[str, str]], str]) -> list[dict[str, Any]]:
    """Return the named ranges as a segmented control; `address` makes one of parameters."""
    return [
        {
            "label": label,
            "url": address({"days": name}),
            "current": days.name == name or (not days.name and of_today(today) == (days.starts_on, days.ends_on)),
        }
        for name, (label, of_today) in _NAMED.items()
    ]


def before(days: Days) -> Days:
    """Return the days that come to mind to compare with, as `periods.comparable` says."""
    return Days(*periods.comparable(days.starts_on, days.ends_on))


def compared(query: QueryDict, days: Days) -> tuple[str, Days | None]:
    """Return how an address compares and with which days: as in `COMPARISONS`; the days before by default."""
    how = query.get("compare", "")
    if how == "none":
        return how, None
    if how == "year":
        return how, a_year_before(days)
    if how == "days" and (starts_on := day(query.get("with"))) is not None:
        starts_on = min(starts_on, days.starts_on)
        return how, Days(starts_on, starts_on + timedelta(days=days.count - 1))
    return "before", before(days)


def a_year_before(days: Days) -> Days:
    """Return the same days of the year before; 29 February becomes the 28th."""
    return Days(_year_before(days.starts_on), _year_before(days.ends_on))


def day(text: str | None) -> date | None:
    """Return the day that a text names, the first that is kept for one before it, and None for anything else."""
    try:
        named = date.fromisoformat(text or "")
    except ValueError:
        return None
    return max(named, _EARLIEST)


def _named(name: str, today: date) -> Days:
    return Days(*_NAMED[name][1](today), name)


def _asked(query: QueryDict, today: date) -> tuple[date, date] | None:
    starts_on, ends_on = day(query.get("from")), day(query.get("to"))
    if starts_on is None and ends_on is None:
        return None
    ends_on = min(ends_on or today, today)
    starts_on = min(starts_on or ends_on - timedelta(days=29), ends_on)
    return max(starts_on, ends_on - _LONGEST), ends_on


def _year_before(on: date) -> date:
    return on.replace(year=on.year - 1, day=min(on.day, monthrange(on.year - 1, on.month)[1]))
