"""Which column of a customer's log means what: guessed from its name, and read as it is said to be written."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from usage.money import MICROS_PER_UNIT

MOST_ID = 128
_MOST = 2**53  # far beyond any call; what is more is no duration and no price

DURATION_UNITS = {"ms": 1, "s": 1_000, "min": 60_000}
CLOCK = "clock"
PRICE_UNITS = {"major": MICROS_PER_UNIT, "hundredth": 10_000, "micros": 1}
_COMMA = re.compile(r"\d,\d")
# A sign, a currency or a unit may stand around a number, and spaces or apostrophes between its thousands.
_WRITTEN = re.compile(r"([+-]?)[^\d.,+\-:/()]{0,6}([+-]?)(\d[\d.,'’\s]*|[.,]\d+)[^\d.,+\-:/()]{0,12}")
_BETWEEN = re.compile(r"['’\s]")
_SCIENTIFIC = re.compile(r"[+-]?\d(?:\.\d+)?[eE][+-]?\d{1,2}")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)")
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,4}):(\d{1,2}(?:\.\d+)?)")

_IDS = ("call_id", "callid", "call id", "call sid", "callsid", "conversation_id", "reference", "uuid", "id")
_DURATIONS = ("duration_ms", "duration", "seconds", "minutes", "length", "billable", "talk time")
_PRICES = ("cost", "price", "amount", "charge", "total", "fee")


class Unreadable(ValueError):
    """A cell does not say what its column means."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are compared, by name; without a name, one is not. `decimal` is the mark before decimals."""

    call_id: str
    duration: str = ""
    duration_unit: str = "s"
    price: str = ""
    price_unit: str = "major"
    decimal: str = "."

    def stored(self) -> dict[str, str]:
        """Return them as a row keeps them."""
        return asdict(self)


def guess(header: Sequence[str], sample: Sequence[Sequence[Any]], remembered: dict[str, str]) -> Columns:
    """Return what was chosen for the last file, if this one has those columns, else what the names suggest."""
    known = {name: value for name, value in remembered.items() if name in Columns.__dataclass_fields__}
    named = [known[name] for name in ("call_id", "duration", "price") if known.get(name)]
    if known.get("call_id") and all(name in header for name in named):
        return Columns(**known)
    duration, price = _like(header, _DURATIONS), _like(header, _PRICES)
    prices = [cell for cell in _cells(header, sample, price) if "." not in cell]
    return Columns(
        call_id=_like(header, _IDS) or header[0],
        duration=duration,
        duration_unit=_unit(duration, _cells(header, sample, duration)),
        price=price,
        decimal="," if any(_COMMA.search(cell) for cell in prices) else ".",
    )


def call_id(cell: Any) -> str:
    """Return the id in a cell; a whole number that a spreadsheet made of it is one, too. Raises Unreadable."""
    if isinstance(cell, float | Decimal) and cell == int(cell):
        cell = int(cell)
    text = "" if cell is None else str(cell).strip()
    if not text or len(text) > MOST_ID or "\0" in text:
        raise Unreadable("There is no call id." if not text else "The call id is too long.")
    return text


def duration_ms(cell: Any, columns: Columns) -> int:
    """Return a duration in milliseconds, rounded half up; an empty cell is none. Raises Unreadable."""
    if isinstance(cell, timedelta):
        return cell // timedelta(milliseconds=1)
    if isinstance(cell, time):
        return ((cell.hour * 60 + cell.minute) * 60 + cell.second) * 1000 + cell.microsecond // 1000
    if columns.duration_unit == CLOCK and isinstance(cell, str) and cell.strip():
        found = _CLOCK.fullmatch(cell.strip().replace(",", "."))
        if not found:
            raise Unreadable(f"“{cell[:40]}” is no duration like 1:23 or 0:01:23.")
        hours, minutes, seconds = found.groups()
        return _whole((Decimal(hours or 0) * 60 + Decimal(minutes)) * 60_000 + Decimal(seconds) * 1_000)
    return _whole(_number(cell, columns.decimal) * DURATION_UNITS.get(columns.duration_unit, 1_000))


def micros(cell: Any, columns: Columns) -> int:
    """Return a price in micros, rounded half up; an empty cell is none. Raises Unreadable."""
    return _whole(_number(cell, columns.decimal) * PRICE_UNITS.get(columns.price_unit, MICROS_PER_UNIT))


def _number(cell: Any, decimal: str) -> Decimal:
    if cell is None or cell == "":
        return Decimal(0)
    if isinstance(cell, bool | date | datetime):
        raise Unreadable(f"“{cell}” is no number.")
    text = str(cell).strip()
    number = Decimal(text) if isinstance(cell, int | float | Decimal) else _of_text(text, decimal)
    if not number.is_finite() or abs(number) > _MOST:
        raise Unreadable(f"“{text[:40]}” is no number that a call could have.")
    return number


def _of_text(text: str, decimal: str) -> Decimal:
    """Return the number in a text, which may have a currency beside it and marks between thousands."""
    if not text:
        return Decimal(0)
    marked = text.replace("." if decimal == "," else ",", "").replace(decimal, ".")
    if _SCIENTIFIC.fullmatch(marked):
        return Decimal(marked)
    written = _WRITTEN.fullmatch(marked)
    plain = _BETWEEN.sub("", "".join(written.groups())) if written else ""
    if not _NUMBER.fullmatch(plain):
        raise Unreadable(f"“{text[:40]}” is no number.")
    return Decimal(plain)


def _whole(number: Decimal) -> int:
    try:
        return int(number.quantize(Decimal(1), rounding=ROUND_HALF_UP))
    except InvalidOperation as error:
        raise Unreadable("The number is too large.") from error


def _like(header: Sequence[str], words: Sequence[str]) -> str:
    plain = {name.lower().replace("-", "_"): name for name in reversed(header)}
    for word in words:
        for name in (word, word.replace(" ", "_"), word.replace(" ", "")):
            if name in plain:
                return plain[name]
    return next((plain[name] for word in words for name in plain if len(word) > 3 and word in name), "")


def _unit(name: str, cells: Sequence[str]) -> str:
    plain = name.lower()
    if any(":" in cell for cell in cells):
        return CLOCK
    if plain.endswith("ms") or "milli" in plain:
        return "ms"
    return "min" if "min" in plain else "s"


def _cells(header: Sequence[str], sample: Sequence[Sequence[Any]], name: str) -> list[str]:
    return [str(row[header.index(name)]) for row in sample] if name in header else []
