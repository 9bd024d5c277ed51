"""A database that has every migration, made once: copied for each worker of a session, poured into other servers.

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

from billing_portal.local import daemons, postgres, servers
from tests import local_servers

_TEMPLATE = "test_migrated"


def copy(name: str, url: str, lock: Path) -> None:
    """Make the database `name` on the server of `url` out of the migrated one, unless it is there.

    Sessions and workers that come at once wait for each other at the file `lock`.
    """
    with _made(url, lock) as connection:
        if not _exists(connection, name):
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(_TEMPLATE))
            )


def pour(into: servers.Servers) -> None:
    """Give the empty database of a test's own servers what the migrated one holds."""
    if local_servers.started is None:  # the tests' server is not ours, and perhaps of another version
        _migrate(into.database_url)
        return
    source = os.environ["DATABASE_URL"]
    owner = daemons.Owner.choose()
    programs = postgres.find(base=daemons.place(into.directory, owner), owner=owner, major=None).directory
    with _made(source, default_lock()):  # until it is read, as nobody can copy what another one is reading
        dump = owner.run([programs / "pg_dump", "--no-owner", _named(source, _TEMPLATE)])
    assert dump.returncode == 0, dump.stdout[-500:]
    quietly = ["-q", "-o", os.devnull, "-v", "ON_ERROR_STOP=1"]
    poured = owner.run([programs / "psql", *quietly, "-d", into.database_url], input=dump.stdout, stdin=None)
    assert poured.returncode == 0, poured.stdout[-500:]


def default_lock() -> Path:
    return servers.default_directory() / "migrated.lock"


@contextmanager
def _made(url: str, lock: Path) -> Iterator[psycopg.Connection]:
    """Make the migrated database, unless it is there, and hold the lock."""
    with _alone(lock), psycopg.connect(url, autocommit=True) as connection:
        if not _exists(connection, _TEMPLATE):
            _make(connection, url)
        yield connection


def _make(connection: psycopg.Connection, url: str) -> None:
    """Migrate a database under a passing name: one that was half done when killed is begun anew."""
    half_done = sql.Identifier(f"{_TEMPLATE}_half")
    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(half_done))
    connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(half_done))
    _migrate(_named(url, f"{_TEMPLATE}_half"))
    connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(half_done, sql.Identifier(_TEMPLATE)))


def _migrate(url: str) -> None:
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--skip-checks", "--verbosity=0"],
        cwd=servers.CHECKOUT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "DATABASE_URL": url},
        check=True,
    )


def _named(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


def _exists(connection: psycopg.Connection, name: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is not None


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
