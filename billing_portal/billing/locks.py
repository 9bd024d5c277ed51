"""Locks around work that leaves the process.

A network call must not happen inside a transaction, so a row lock cannot guard it. PostgreSQL's session-level advisory
locks can: they belong to the connection, and are gone when it is, also after a SIGKILL.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def attempt(name: str) -> Iterator[bool]:
    """Try to hold the lock called `name` for the block; yield whether it is held. Never waits.

    The same connection may take a lock twice, so nest no two blocks of the same name.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])
        (held,) = cursor.fetchone()
    try:
        yield held
    finally:
        if held:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])
