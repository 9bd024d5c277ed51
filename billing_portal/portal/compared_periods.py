"""Which two periods a page compares, read from its address, and how people call them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict

from billing_portal.portal import date_ranges, formats
from usage import changes, periods
from usage.changes import Span

_MONTHS_OFFERED = 3
_LONGEST = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Compared:
    """Two periods: billed months, which have credit too, or days. `query` is what asks for them."""

    before: Span
    after: Span
    query: str

    @property
    def is_billed(self) -> bool:
        return self.after.billed_month is not None

    @property
    def before_name(self) -> str:
        return name(self.before)

    @property
    def after_name(self) -> str:
        return name(self.after)

    @property
    def is_uneven(self) -> bool:
        """Whether days are compared with more or fewer of them."""
        return not self.is_billed and self.before.days != self.after.days


def read(query: QueryDict, *, today: date) -> Compared:
    """Return what an address compares; by default this month's days that are over with the same of the month before.

    `month` (as in 2026-10) is what was billed in it, against the month before, or against the one that `against`
    names; a month that is not over is compared day by day. `from` and `to`, or `days` by their name, are days, against
    those of `against_from` and `against_to`, or the ones before.
    """
    if month := _month(query.get("month")):
        if month < today.replace(day=1):
            against = _month(query.get("against")) or periods.previous_month(month)
            return _billed(against, month)
    elif any(query.get(name) for name in ("days", "from", "to")):
        days = date_ranges.of(query, today, default="month")
        after = Span(days.starts_on, days.ends_on)
        return _by_days(_against(query, today) or changes.before(after), after)
    before, after = changes.so_far(today)
    return Compared(before, after, "")


def choices(here: str, compared: Compared, *, today: date, first_month: date) -> Sequence[dict[str, Any]]:
    """Return what is offered above the page: this month so far, and the last months that were billed."""
    before, after = changes.so_far(today)
    options = [
        {
            "label": f"{formats.month_name(today)} so far",
            "url": here,
            "current": (before, after) == (compared.before, compared.after),
        }
    ]
    month = today
    for _ in range(_MONTHS_OFFERED):
        month = periods.previous_month(month)
        if month < first_month:
            break
        billed = _billed(periods.previous_month(month), month)
        current = billed == compared
        options.append({"label": formats.month_name(month), "url": f"{here}?{billed.query}", "current": current})
    return options


def name(span: Span) -> str:
    """Return what people call the span: "October 2026", "Nov 1 – 20, 2026"."""
    if span.billed_month:
        return formats.month(span.billed_month)
    return formats.day(span.starts_on) if span.days == 1 else formats.period(span.starts_on, span.ends_on)


def _billed(before: date, after: date) -> Compared:
    query = {"month": f"{after:%Y-%m}"}
    if before != periods.previous_month(after):
        query["against"] = f"{before:%Y-%m}"
    return Compared(Span.of_month(before), Span.of_month(after), urlencode(query))


def _by_days(before: Span, after: Span) -> Compared:
    query = {
        "from": after.starts_on,
        "to": after.ends_on,
        "against_from": before.starts_on,
        "against_to": before.ends_on,
    }
    return Compared(before, after, urlencode(query))


def _against(query: QueryDict, today: date) -> Span | None:
    """Return the days to compare with that an address names; None if one of them is missing or unreadable."""
    first, last = (date_ranges.day(query.get(name)) for name in ("against_from", "against_to"))
    if first is None or last is None:
        return None
    starts_on, ends_on = sorted(min(each, today) for each in (first, last))
    return Span(max(starts_on, ends_on - _LONGEST), ends_on)


def _month(text: str | None) -> date | None:
    return date_ranges.day(f"{text}-01") if text and len(text) == len("2026-10") else None
