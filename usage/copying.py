"""Rows in PostgreSQL's binary COPY format: the quickest way into a table, and the least work for both sides.

Source of the format: https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any

from django.db import connection

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INT8_OID = 20
_ARRAY = "!iiiIii"
_ARRAYS = [Struct(_ARRAY + "iq" * length) for length in range(1, 9)]
NULL = b"\xff\xff\xff\xff"
EMPTY_ARRAY = Struct("!iiiI").pack(12, 0, 0, _INT8_OID)


def instant(moment: datetime) -> int:
    """Return a timestamptz: microseconds since 2000."""
    return (moment - _EPOCH) // _MICROSECOND


def text(value: str) -> bytes:
    """Return a field of text, its length first."""
    encoded = value.encode()
    return len(encoded).to_bytes(4, "big") + encoded


def json(value: Any) -> bytes:
    """Return a field of jsonb from JSON text; the leading 1 is the version of its format."""
    return (len(value) + 1).to_bytes(4, "big") + b"\x01" + bytes(value)


def int8_array(values: Sequence[int]) -> bytes:
    """Return a field of bigint[]."""
    count = len(values)
    if not count:
        return EMPTY_ARRAY
    packed = [8] * (2 * count)  # each value follows its length
    packed[1::2] = values
    layout = _ARRAYS[count - 1] if count <= len(_ARRAYS) else Struct(_ARRAY + "iq" * count)
    return layout.pack(layout.size - 4, 1, 0, _INT8_OID, count, 1, *packed)


def copy(table: str, columns: str, rows: Iterable[bytes]) -> None:
    """Copy rows, each a field count and its fields, into a table, in the caller's transaction."""
    statement = f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)"
    body = b"".join([_HEADER, *rows, _TRAILER])
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(statement) as stream:
        stream.write(body)
