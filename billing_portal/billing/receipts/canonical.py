"""One way to write a value down: JSON with sorted keys, no spaces, whole numbers, instants in UTC."""

from datetime import UTC, datetime
from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder(order="sorted")


def encode(value: Any) -> bytes:
    """Return the bytes of a value made of dicts, lists, texts, whole numbers, booleans and None."""
    return _ENCODER.encode(value)


def instant(value: datetime) -> str:
    """Return an aware instant to the microsecond, like 2027-02-10T09:30:00.000000Z."""
    return value.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def instant_or_none(value: datetime | None) -> str | None:
    """Return an instant as `instant` does, None for none."""
    return None if value is None else instant(value)


def decode(line: bytes | memoryview) -> Any:
    """Return the value of what `encode` wrote."""
    return msgspec.json.decode(bytes(line))
