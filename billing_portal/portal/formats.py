"""Money, quantities, spans, instants and shares as people read them: the one place that formats.

Amounts arrive as integer micros of a major unit and are never turned into floats. The locale is the active
language's; every function also takes it by name. A minus is U+2212, as wide as a digit and read aloud as "minus".
"""

import re
from collections.abc import Sequence
from datetime import date, datetime, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from babel import Locale, UnknownLocaleError, numbers
from babel import dates as babel_dates
from django.utils import timezone, translation

from usage.money import MICROS_PER_UNIT
from usage.outcomes.billed import AtPrice

EXACT_DIGITS = 6
_MINUS = "\N{MINUS SIGN}"
_NO_BREAK = "\N{NO-BREAK SPACE}"
# A currency's letters beside a figure.
_TOUCHING = re.compile(r"(?<=[^\W\d_])(?=\d)")


def active_locale() -> Locale:
    """Return the locale of the active language; English when babel does not know it."""
    return Locale.parse(_language())


def _language() -> str:
    return _locale_of(translation.get_language() or "en")


@lru_cache(maxsize=64)
def _locale_of(language: str) -> str:
    try:
        return str(Locale.parse(translation.to_locale(language)))
    except (UnknownLocaleError, ValueError):
        return "en_US"


def money(micros: int, currency: str, *, locale: Locale | None = None) -> str:
    """Return an amount in the currency's own decimals, halves rounded away from zero: "$1,037.10", "¥1,500"."""
    return _currency(micros, currency, digits=minor_digits(currency), locale=locale)


def money_exact(micros: int, currency: str, *, locale: Locale | None = None) -> str:
    """Return an amount to its micro, in at least the currency's decimals: "$0.15215", "$0.07", "$12.00"."""
    fraction = f"{abs(micros) % MICROS_PER_UNIT:06d}".rstrip("0")
    digits = max(minor_digits(currency), len(fraction))
    return _currency(micros, currency, digits=digits, locale=locale)


def money_change(micros: int, currency: str, *, exact: bool = False, locale: Locale | None = None) -> str:
    """Return a difference with its sign: "+$12.30", "−$0.50", "$0.00"; to its micro if `exact`."""
    text = (money_exact if exact else money)(abs(micros), currency, locale=locale)
    return text if micros == 0 else f"{'+' if micros > 0 else _MINUS}{text}"


def money_axis(micros: int, currency: str, *, step_micros: int, locale: Locale | None = None) -> str:
    """Return the shortest label that still tells ticks `step_micros` apart: "$40", "$0.25", "$120K"."""
    locale = locale or active_locale()
    if step_micros >= 1_000 * MICROS_PER_UNIT:
        digits = 1 if step_micros % (1_000 * MICROS_PER_UNIT) else 0
        return _spaced(
            _minus(
                numbers.format_compact_currency(
                    Decimal(micros) / MICROS_PER_UNIT, currency, locale=locale, fraction_digits=digits
                )
            )
        )
    if step_micros % MICROS_PER_UNIT == 0:
        return _currency(micros, currency, digits=0, locale=locale)
    fraction = f"{step_micros % MICROS_PER_UNIT:06d}".rstrip("0")
    return _currency(micros, currency, digits=max(minor_digits(currency), len(fraction)), locale=locale)


def minor_digits(currency: str) -> int:
    """Return how many decimals the currency has: 2 for USD, 0 for JPY."""
    return _minor_digits(currency)


@lru_cache(maxsize=256)
def _minor_digits(currency: str) -> int:
    return numbers.get_currency_precision(currency)


def quantity(value: int | Decimal, *, locale: Locale | None = None) -> str:
    """Return a count with the locale's grouping: "137,824"."""
    if isinstance(value, int):
        return _written(_DECIMAL, _name(locale), value, digits=0)
    return _minus(numbers.format_decimal(value, locale=locale or active_locale()))


def at_prices(prices: Sequence[AtPrice], currency: str, *, locale: Locale | None = None) -> str:
    """Return how many outcomes at which price: "1,234 × $0.99", or "7 × $0.99 + 2 × $1.09"."""
    parts = (
        f"{quantity(each.outcomes, locale=locale)} × {money_exact(each.price_micros, currency, locale=locale)}"
        for each in prices
    )
    return " + ".join(parts)


def minutes(ms: int, *, locale: Locale | None = None) -> str:
    """Return milliseconds as minutes with two decimals: "1.62"."""
    hundredths = (abs(ms) * 200 + 60_000) // 120_000
    return _written(_DECIMAL, _name(locale), hundredths if ms >= 0 else -hundredths, digits=2)


def seconds(ms: int, *, locale: Locale | None = None) -> str:
    """Return milliseconds as exact seconds: "97.4 s"."""
    value = numbers.format_decimal(Decimal(ms) / 1_000, format="#,##0.###", locale=locale or active_locale())
    return f"{_minus(value)}{_NO_BREAK}s"


def duration(ms: int) -> str:
    """Return a span in its two largest units, whole seconds: "0 s", "1 m 37 s", "2 h 05 m". Part seconds below 1 s."""
    if 0 < ms < 1_000:
        return f"{ms}{_NO_BREAK}ms"
    seconds = (ms + 500) // 1_000
    hours, rest = divmod(seconds, 3_600)
    mins, secs = divmod(rest, 60)
    if hours:
        return f"{quantity(hours)}{_NO_BREAK}h {mins:02d}{_NO_BREAK}m".replace(" ", _NO_BREAK)
    if mins:
        return f"{mins}{_NO_BREAK}m{_NO_BREAK}{secs:02d}{_NO_BREAK}s"
    return f"{secs}{_NO_BREAK}s"


def day(value: date | datetime, zone: tzinfo | None = None, *, locale: Locale | None = None) -> str:
    """Return the day an instant falls on in `zone`, or a date as it is: "21 Nov 2026" in the locale's order."""
    return _day(_local_date(value, zone), str(locale) if locale else _language())


@lru_cache(maxsize=4096)
def _day(value: date, locale: str) -> str:
    return babel_dates.format_date(value, format="medium", locale=locale)


def days(first: date, last: date) -> str:
    """Return the days from the first to the last, one day as itself: "Oct 1, 2026 – Oct 31, 2026", "Oct 15, 2026"."""
    return day(first) if first == last else f"{day(first)} – {day(last)}"


def short_day(value: date | datetime, zone: tzinfo | None = None, *, locale: Locale | None = None) -> str:
    """Return a day without its year: "Nov 21"."""
    return babel_dates.format_skeleton("MMMd", _local_date(value, zone), locale=locale or active_locale())


def long_day(value: date | datetime, zone: tzinfo | None = None, *, locale: Locale | None = None) -> str:
    """Return a day with its weekday: "Sat, Nov 21, 2026"."""
    return _long_day(_local_date(value, zone), str(locale) if locale else _language())


@lru_cache(maxsize=4096)
def _long_day(value: date, locale: str) -> str:
    return babel_dates.format_skeleton("yMMMEd", value, locale=locale)


def month(value: date | datetime, zone: tzinfo | None = None, *, locale: Locale | None = None) -> str:
    """Return "November 2026"."""
    return babel_dates.format_skeleton("yMMMM", _local_date(value, zone), locale=locale or active_locale())


def month_name(value: date, *, locale: Locale | None = None) -> str:
    """Return a month without its year: "November"."""
    return babel_dates.format_date(value, format="LLLL", locale=locale or active_locale())


def short_month(value: date, *, locale: Locale | None = None) -> str:
    """Return "Nov"."""
    return babel_dates.format_skeleton("MMM", value, locale=locale or active_locale())


def period(starts: date, last: date, *, locale: Locale | None = None) -> str:
    """Return an interval of whole days, both ends included: "Nov 1 – 21, 2026"."""
    return babel_dates.format_interval(starts, last, skeleton="yMMMd", locale=locale or active_locale())


def moment(value: datetime, zone: tzinfo | None = None, *, seconds: bool = False, locale: Locale | None = None) -> str:
    """Return an instant in `zone` (the active zone without one): "Nov 21, 2026, 14:05". Always 24 hours."""
    local = timezone.localtime(value, zone)
    clock = local.strftime("%H:%M:%S" if seconds else "%H:%M")
    return f"{day(local.date(), locale=locale)}, {clock}"


def rate(percent: Decimal, *, locale: Locale | None = None) -> str:
    """Return a rate of tax with as many digits as it has: "19%", "8.875%"."""
    return numbers.format_percent(percent / 100, format="#,##0.####%", locale=locale or active_locale())


def percent(numerator: int, denominator: int, *, digits: int = 1, locale: Locale | None = None) -> str:
    """Return a share, halves rounded away from zero: "12.5%"; a dash when there is nothing to divide by."""
    if denominator == 0:
        return "–"
    whole = 2 * abs(denominator)
    parts = (2 * abs(numerator) * 10 ** (digits + 2) + abs(denominator)) // whole
    return _written(_PERCENT, _name(locale), parts if (numerator < 0) == (denominator < 0) else -parts, digits=digits)


def change(now: int, before: int, *, locale: Locale | None = None) -> str:
    """Return how much more or less it is, as a share of what was before: "+12.5%", "new", "gone", "±0%"."""
    if now == before:
        return "±0%"
    if before == 0 or now == 0:
        return "new" if before == 0 else "gone"
    share = percent(now - before, abs(before), locale=locale)
    return share if now < before else f"+{share}"


def _currency(micros: int, currency: str, *, digits: int, locale: Locale | None) -> str:
    unit = 10 ** (EXACT_DIGITS - digits)
    smallest = (2 * abs(micros) + unit) // (2 * unit)
    return _written(currency, _name(locale), smallest if micros > 0 else -smallest, digits=digits)


def _name(locale: Locale | None) -> str:
    return str(locale) if locale else _language()


# What a number is, where it is no money.
_DECIMAL, _PERCENT = "decimal", "percent"


def _written(kind: str, locale: str, value: int, *, digits: int) -> str:
    """Return a number of units of its last digit; `kind` is a currency, _DECIMAL or _PERCENT."""
    shape = _shape(kind, locale, digits)
    if shape is None:
        return _by_babel(kind, locale, value, digits)
    whole, fraction = divmod(abs(value), 10**digits)
    text = f"{whole:,}".replace(",", shape.group)
    if digits:
        text += f"{shape.decimal}{fraction:0{digits}}"
    before, after = shape.negative if value < 0 else shape.positive
    return f"{before}{text}{after}"


class _Shape(NamedTuple):
    """What stands around and within a number's figures, thousands in threes."""

    positive: tuple[str, str]
    negative: tuple[str, str]
    group: str
    decimal: str


@lru_cache(maxsize=256)
def _shape(kind: str, locale: str, digits: int) -> _Shape | None:
    """Return how babel writes numbers, read off one that it wrote, since it takes long; None where it groups otherwise.

    A page has hundreds of them.
    """
    figures = re.compile(r"1(\D*)234(\D*)567" + (rf"(\D+){'8' * digits}" if digits else "()"))
    probe = int("1234567" + "8" * digits)
    texts = [_by_babel(kind, locale, probe, digits), _by_babel(kind, locale, -probe, digits)]
    found = [figures.search(text) for text in texts]
    if found[0] is None or found[1] is None or found[0][1] != found[0][2]:
        return None
    around = [(text[: each.start()], text[each.end() :]) for text, each in zip(texts, found, strict=True) if each]
    return _Shape(around[0], around[1], found[0][1], found[0][3])


def _by_babel(kind: str, locale: str, value: int, digits: int) -> str:
    number = Decimal(value).scaleb(-digits - 2 if kind == _PERCENT else -digits)
    currency = None if kind in {_DECIMAL, _PERCENT} else kind
    pattern = _pattern(kind, locale, digits)
    return _spaced(_minus(pattern.apply(number + 0, Locale.parse(locale), currency=currency, currency_digits=False)))


def _spaced(text: str) -> str:
    """Part letters and figures, as Unicode's locale data ask for and babel does not: "KWD 1.500", not "KWD1.500"."""
    return _TOUCHING.sub(_NO_BREAK, text)


@lru_cache(maxsize=256)
def _pattern(kind: str, locale: str, digits: int) -> numbers.NumberPattern:
    """Return the locale's pattern with exactly `digits` decimals in place of its usual ones."""
    known = Locale.parse(locale)
    decimals = "." + "0" * digits if digits else ""
    if kind == _PERCENT:
        return numbers.parse_pattern(f"#,##0{decimals}%")
    if kind == _DECIMAL:
        return numbers.parse_pattern(known.decimal_formats[None].pattern.partition(".")[0] + decimals)
    return numbers.parse_pattern(known.currency_formats["standard"].pattern.replace("0.00", "0" + decimals))


def _minus(text: str) -> str:
    return text.replace("-", _MINUS)


def _local_date(value: date | datetime, zone: tzinfo | None) -> date:
    return timezone.localtime(value, zone).date() if isinstance(value, datetime) else value
