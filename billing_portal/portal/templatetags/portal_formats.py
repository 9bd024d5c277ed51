"""The formats as template filters. A filter given None or nothing shows a dash, so that a missing fact is visible."""

from collections.abc import Callable, Sequence
from datetime import date, datetime, tzinfo
from functools import wraps
from typing import Any

from django import template

from billing_portal.billing import minor_units
from billing_portal.billing.local_prices import LocalRate
from billing_portal.portal import formats
from usage.outcomes.billed import AtPrice

register = template.Library()
_NOTHING = "–"


def _filter(function: Callable[..., str]) -> Callable[..., str]:
    """Register a filter under the function's name; a missing value shows a dash."""

    @wraps(function)
    def guarded(value: Any, *arguments: Any) -> str:
        if value is None or value == "":
            return _NOTHING
        return function(value, *arguments)

    register.filter(function.__name__, guarded)
    return guarded


@_filter
def money(micros: int, currency: str) -> str:
    return formats.money(micros, currency)


@_filter
def money_exact(micros: int, currency: str) -> str:
    return formats.money_exact(micros, currency)


@_filter
def money_change(micros: int, currency: str) -> str:
    return formats.money_change(micros, currency, exact=True)


@_filter
def quantity(value: int) -> str:
    return formats.quantity(value)


@_filter
def at_prices(prices: Sequence[AtPrice], currency: str) -> str:
    return formats.at_prices(prices, currency)


@_filter
def minutes(ms: int) -> str:
    return formats.minutes(ms)


@_filter
def seconds(ms: int) -> str:
    return formats.seconds(ms)


@_filter
def duration(ms: int) -> str:
    return formats.duration(ms)


@_filter
def day(value: date | datetime, zone: tzinfo | None = None) -> str:
    return formats.day(value, zone)


@_filter
def to_day(first: date, last: date) -> str:
    return formats.days(first, last)


@_filter
def short_day(value: date | datetime, zone: tzinfo | None = None) -> str:
    return formats.short_day(value, zone)


@_filter
def long_day(value: date | datetime, zone: tzinfo | None = None) -> str:
    return formats.long_day(value, zone)


@_filter
def month(value: date | datetime, zone: tzinfo | None = None) -> str:
    return formats.month(value, zone)


@_filter
def moment(value: datetime, zone: tzinfo | None = None) -> str:
    return formats.moment(value, zone)


@_filter
def moment_exact(value: datetime, zone: tzinfo | None = None) -> str:
    return formats.moment(value, zone, seconds=True)


@_filter
def percent_of(numerator: int, denominator: int) -> str:
    return formats.percent(numerator, denominator)


@_filter
def change_from(now: int, before: int) -> str:
    return formats.change(now, before)


@_filter
def about(micros: int, rate: LocalRate) -> str:
    return f"about {formats.money(rate.about(micros), rate.currency)}"


@_filter
def money_minor(minor: int, currency: str) -> str:
    return formats.money(minor_units.to_micros(minor, currency), currency)
