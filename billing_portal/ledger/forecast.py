"""What a month will come to: each weekday's mean for the days to come, and a range from how wrong that was before.

The range is measured, not assumed: for days past, the same forecast is made with what was known then and compared with
what came; the worst of them on either side, and a quarter more, are the range.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

from usage import periods

LEAST_DAYS = 7
_WEEKS = 4
_HISTORY_DAYS = 70
_ENOUGH_TRIALS = 5
_WIDER = Fraction(5, 4)
_GUESS = (Fraction(1, 2), Fraction(3, 2))


@dataclass(frozen=True, slots=True)
class Forecast:
    """Micros at the month's end: what is expected, and a range. `rest` is what is expected of each day to come."""

    low_micros: int
    expected_micros: int
    high_micros: int
    rest: tuple[tuple[date, int], ...]
    is_rough: bool


def of_month(days: Mapping[date, int], *, today: date, spent_micros: int) -> Forecast | None:
    """Forecast the month of `today` from micros by day; None before there is a week of days.

    `spent_micros` is what the month came to so far. Days without an entry after the first one had no usage.
    """
    used = [day for day, micros in days.items() if micros and day < today]
    if not used or (today - min(used)).days < LEAST_DAYS:
        return None
    starts_on = max(min(used), today - timedelta(days=_HISTORY_DAYS))
    history = {day: days.get(day, 0) for day in _span(starts_on, today)}
    ahead = _span(today, periods.next_month(today.replace(day=1)))
    rest = [(day, _expected(history, day, before=today)) for day in ahead]
    # Of today, only what is still to come.
    rest[0] = (today, max(0, rest[0][1] - days.get(today, 0)))
    total = sum(micros for _, micros in rest)
    ratios = _ratios(history, len(ahead))
    is_rough = len(ratios) < _ENOUGH_TRIALS
    low, high = _GUESS if is_rough else _widened(ratios)
    return Forecast(
        low_micros=spent_micros + int(total * min(low, Fraction(1))),
        expected_micros=spent_micros + total,
        high_micros=spent_micros + int(total * max(high, Fraction(1))),
        rest=tuple(rest),
        is_rough=is_rough,
    )


def _expected(history: Mapping[date, int], day: date, *, before: date) -> int:
    """Return the mean of the last same weekdays before `before`; `history` holds the week before it."""
    newest = before - timedelta(days=(before.weekday() - day.weekday()) % 7 or 7)
    same = [newest - timedelta(days=7 * week) for week in range(_WEEKS)]
    found = [history[each] for each in same if each in history]
    return sum(found) // len(found)


def _ratios(history: Mapping[date, int], horizon: int) -> list[Fraction]:
    """Return actual ÷ expected of the same forecast at every past day that leaves enough days on both sides."""
    first, last = min(history), max(history)
    # With less history than the month has days left, shorter trials: they swing more, so the range errs to the wide.
    horizon = max(1, min(horizon, ((last - first).days + 1 - LEAST_DAYS) // 2))
    ratios = []
    for origin in _span(first + timedelta(days=LEAST_DAYS), last - timedelta(days=horizon - 2)):
        known = {day: micros for day, micros in history.items() if day < origin}
        ahead = _span(origin, origin + timedelta(days=horizon))
        expected = sum(_expected(known, day, before=origin) for day in ahead)
        if expected:
            ratios.append(Fraction(sum(history[day] for day in ahead), expected))
    return ratios


def _widened(ratios: list[Fraction]) -> tuple[Fraction, Fraction]:
    """Return the worst on either side of one, and a quarter more: overlapping trials show less than there can be."""
    return max(Fraction(0), 1 - (1 - min(ratios)) * _WIDER), 1 + (max(ratios) - 1) * _WIDER


def _span(starts_on: date, ends_before: date) -> list[date]:
    return [starts_on + timedelta(days=number) for number in range((ends_before - starts_on).days)]
