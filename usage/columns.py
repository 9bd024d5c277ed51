"""Columns of rows as PostgreSQL reads arrays: psycopg's own way takes ten times as long, longer than the statement."""

from collections.abc import Sequence
from typing import Any


def of(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, str]:
    """Return the rows' columns by name, for `unnest(%(name)s::bigint[], …)`."""
    return {name: array([row[place] for row in rows]) for place, name in enumerate(names)}


def array(values: Sequence[Any]) -> str:
    """Return PostgreSQL's text of an array of one type; what is none becomes null."""
    if any(isinstance(value, str) for value in values):
        return "{" + ",".join(map(_text, values)) + "}"
    return "{" + ",".join("NULL" if value is None else str(value) for value in values) + "}"


def _text(value: str | None) -> str:
    if value is None:
        return "NULL"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
