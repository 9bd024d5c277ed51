"""A few rows for several tables in one statement, as JSON: what a COPY to each would cost is mostly waiting.

Each table's rows are dictionaries by the names of its columns; msgspec writes them at once, and PostgreSQL reads them
as records of the table. For a thousand rows `copying` costs less.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from django.db import connection

Row = Mapping[str, Any]

_encoder = msgspec.json.Encoder()


def insert(tables: Mapping[str, Sequence[Row]]) -> None:
    """Insert the rows of all tables, in the caller's transaction. Rows of one table have the same columns."""
    rows = {table: given for table, given in tables.items() if given}
    *others, last = (_insert(table, given[0]) for table, given in rows.items())
    parts = ", ".join(f"part_{number} AS ({statement})" for number, statement in enumerate(others))
    with connection.cursor() as cursor:
        cursor.execute(f"WITH {parts} {last}" if parts else last, [encoded(given) for given in rows.values()])


def encoded(rows: Sequence[Row]) -> str:
    """Return rows as the text of a JSON array."""
    return _encoder.encode(rows).decode()


def _insert(table: str, row: Row) -> str:
    columns = ", ".join(row)
    return f"INSERT INTO {table} ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::{table}, %s)"
