"""Times are read from the database by psycopg's compiled loader.

Django reads them by a subclass of the plain Python one, to give them a zone of its choice: 2.5 µs each, where the
compiled one, whose times are in the connection's zone anyway, takes 0.2. They were most of what settlement did in
Python.
"""

from datetime import UTC
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from psycopg import adapt, adapters
from psycopg.abc import AdaptContext, Loader
from psycopg.pq import Format

_TYPE = adapters.types["timestamptz"]
_COMPILED = adapters.get_loader(_TYPE.oid, Format.TEXT)


class InstantLoader(adapt.Loader):
    """What Django takes for its own loader, by its `timezone`; each instance is a compiled one."""

    timezone = UTC

    def __new__(cls, oid: int, context: AdaptContext | None = None) -> Loader:  # type: ignore[misc]
        assert _COMPILED is not None, "psycopg knows how to read times"
        return _COMPILED(oid, context)


def register() -> None:
    """Let every connection in UTC that is opened from here on read times so."""
    connection_created.connect(_register, dispatch_uid="accounts.instant_loader")


def _register(sender: Any, connection: BaseDatabaseWrapper, **_: Any) -> None:
    if connection.timezone == UTC:
        connection.connection.adapters.register_loader("timestamptz", InstantLoader)
