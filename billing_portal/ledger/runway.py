"""How long a bucket lasts: at the pace of the last four weeks, and at the fastest and slowest week of the last eight.

The range is what was, not what is assumed: should usage be as in the busiest week, or as in the quietest. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

LEAST_DAYS = 7
_WEEK = 7
_PACE_DAYS = 28
_RANGE_DAYS = 56


@dataclass(frozen=True, slots=True)
class Runway:
    """When a bucket will be empty, at the usual pace and at the extremes; None is not within its term.

    The paces are units a day. `left_units` is what would be left at the end of the term at the usual pace.
    """

    earliest: date | None
    expected: date | None
    latest: date | None
    left_units: int
    pace: Fraction
    fastest: Fraction
    slowest: Fraction


def of_bucket(used: Mapping[date, int], *, left: int, today: date, ends_on: date) -> Runway | None:
    """Project what is `left` from the units used by day, net of those given back; None before a week of days.

    `ends_on` is the day on which the term ends. Of today only what was used before counts as pace: the day is not over.
    """
    days = [day for day, units in used.items() if units and day < today]
    if left <= 0 or not days or (today - min(days)).days < LEAST_DAYS:
        return None
    known = min((today - min(days)).days, _RANGE_DAYS)
    history = [used.get(today - timedelta(days=number), 0) for number in range(known, 0, -1)]
    weeks = [Fraction(sum(history[at : at + _WEEK]), _WEEK) for at in range(len(history) - _WEEK + 1)]
    usual = history[-_PACE_DAYS:]
    pace = max(Fraction(sum(usual), len(usual)), Fraction(0))
    fastest, slowest = max([pace, *weeks]), max(Fraction(0), min([pace, *weeks]))
    term = max(0, (ends_on - today).days)
    return Runway(
        earliest=_empty_on(left, fastest, today, ends_on),
        expected=_empty_on(left, pace, today, ends_on),
        latest=_empty_on(left, slowest, today, ends_on),
        left_units=max(0, left - int(pace * term)),
        pace=pace,
        fastest=fastest,
        slowest=slowest,
    )


def _empty_on(left: int, pace: Fraction, today: date, ends_on: date) -> date | None:
    """Return the day on which the last unit goes at a pace; None for one after the term."""
    if not pace:
        return None
    days = -(-left // pace)
    return today + timedelta(days=days) if days <= (ends_on - today).days else None
