"""A database that has every migration, made once and copied for each worker of a session.

Migrating an empty database takes a minute of CPU, copying one that is migrated a second.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from billing_portal.local import servers

_TEMPLATE = "test_migrated"


def copy(name: str, url: str, lock: Path) -> None:
    """Make the database `name` on the server of `url` out of the migrated one, unless it is there.

    Sessions and workers that come at once wait for each other at the file `lock`.
    """
    with _alone(lock), psycopg.connect(url, autocommit=True) as connection:
        if _exists(connection, name):
            return
        if not _exists(connection, _TEMPLATE):
            _migrate(connection, url)
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(_TEMPLATE))
        )


def _migrate(connection: psycopg.Connection, url: str) -> None:
    """Migrate a database under a passing name: one that was half done when killed is begun anew."""
    half_done = sql.Identifier(f"{_TEMPLATE}_half")
    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(half_done))
    connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(half_done))
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--skip-checks", "--verbosity=0"],
        cwd=servers.CHECKOUT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": urlsplit(url)._replace(path=f"/{_TEMPLATE}_half").geturl(),
        },
        check=True,
    )
    connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(half_done, sql.Identifier(_TEMPLATE)))


def _exists(connection: psycopg.Connection, name: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is not None


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
