"""Instants as programs write them: whole milliseconds since 1970, or RFC 3339."""

import re
from datetime import UTC, datetime, timedelta, timezone

# Nothing was billed before that; a smaller number is most likely seconds. Each month of calls has a table of its own,
# and a typing error in a year must not make one.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_MS = 253_402_300_799_999
_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(?:[.,](\d{1,9}))?\s?(?:([Zz])|([+-])(\d\d):?(\d\d))",
    re.ASCII,
)


class TooEarly(ValueError):
    """The instant lies before all calls."""


def parse(value: int | str) -> datetime:
    """Return the instant in UTC. Raises ValueError with a reason for people, TooEarly for one before 2000.

    The second 60 of a leap second is the next minute's first, so such an instant is never lost.
    """
    instant = _of_milliseconds(value) if isinstance(value, int) else _of_text(value)
    if instant < EARLIEST:
        raise TooEarly(f"{value} lies before 2000. Instants are whole milliseconds since 1970, or RFC 3339.")
    return instant


def _of_milliseconds(value: int) -> datetime:
    if not 0 <= value <= _LATEST_MS:
        raise ValueError(f"{value} is no instant in milliseconds since 1970.")
    return _EPOCH + timedelta(0, 0, 0, value)  # by place, as this is asked twice a call


def _of_text(text: str) -> datetime:
    found = _RFC_3339.fullmatch(text)
    if found is None:
        raise ValueError("Expected an instant with an offset, as in 2026-10-15T09:30:00Z.")
    day, minute, second, fraction, zulu, sign, hours, minutes = found.groups()
    try:
        whole = datetime.fromisoformat(f"{day}T{minute}:00")
        zone = UTC if zulu else _offset(sign, int(hours), int(minutes))
        if int(second) > 60:
            raise ValueError
        elapsed = timedelta(seconds=int(second), microseconds=int((fraction or "0").ljust(6, "0")[:6]))
        return (whole.replace(tzinfo=zone) + elapsed).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text} is no instant.") from None


def _offset(sign: str, hours: int, minutes: int) -> timezone:
    if minutes > 59:
        raise ValueError
    return timezone((1 if sign == "+" else -1) * timedelta(hours=hours, minutes=minutes))
