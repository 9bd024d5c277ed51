"""The ground of all tests: real local servers, no network beyond the loopback, Chromium if there is one.

Loaded with `-p tests.local_servers`, before Django's settings are read.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import psycopg.sql
import pytest

from billing_portal.local import servers

if TYPE_CHECKING:
    from playwright.sync_api import Browser

started: servers.Servers | None = None
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Tells the workers of a session that it started the servers.
_OURS = "PORTAL_TEST_SERVERS"
NO_CHROMIUM = "Chromium is not installed"
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# A page on a machine that does much else is slow, not wrong: what is waited for comes, or the test fails later.
PATIENCE_MS = 60_000


def in_ci() -> bool:
    return bool(os.environ.get("CI"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests() -> Iterator[None]:
    """Start the servers before any plugin reads the settings: wrappers run before all others."""
    global started  # noqa: PLW0603 - one session, one pair of servers
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and os.environ.get(_OURS):
        # Its session's, which run: so that a worker knows where they are.
        started = servers.ensure(servers.default_directory() / "test", durable=False)
    elif not (os.environ.get("DATABASE_URL") and os.environ.get("BROKER_URL")):
        started = servers.ensure(servers.default_directory() / "test", durable=False)
        os.environ[_OURS] = "1"
        os.environ["DATABASE_URL"] = os.environ.get("DATABASE_URL") or started.database_url
        os.environ["BROKER_URL"] = os.environ.get("BROKER_URL") or started.broker_url
        drop_outdated_databases(started)
    if worker:
        os.environ["BROKER_URL"] = broker_of_worker(os.environ["BROKER_URL"], worker)
    return (yield)


def broker_of_worker(url: str, worker: str) -> str:
    """Return the address of a worker's own database in Valkey, as pytest-django gives it one of its own in PostgreSQL.

    Tests clear their cache as a whole, so it must be no other worker's. Database 0 is that of a run without workers.
    """
    number = int(worker.removeprefix("gw")) + 1
    return urlsplit(url)._replace(path=f"/{number}").geturl()


def drop_outdated_databases(where: servers.Servers) -> None:
    """Drop the kept test databases when a migration was edited: `--reuse-db` only notices new ones."""
    packages = [servers.CHECKOUT / name for name in ("accounts", "usage", "billing_portal")]
    migrations = sorted(path for package in packages for path in package.rglob("*migrations/*.py"))
    digest = hashlib.sha256(b"".join(bytes(path) + path.read_bytes() for path in migrations)).hexdigest()
    remembered = where.directory / "migrations.sha256"
    if remembered.exists() and remembered.read_text() == digest:
        return
    try:
        with psycopg.connect(where.database_url, autocommit=True) as connection:
            kept = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test%'").fetchall()
            for (name,) in kept:
                connection.execute(psycopg.sql.SQL("DROP DATABASE {}").format(psycopg.sql.Identifier(name)))
    except psycopg.errors.ObjectInUse:
        return  # by another session, which will find out by itself
    remembered.write_text(digest)


@pytest.hookimpl(tryfirst=True)  # before pytest-socket, whose guard this sets
def pytest_configure(config: pytest.Config) -> None:
    config.option.allow_hosts = config.option.allow_hosts or "127.0.0.1,::1,localhost"
    config.option.allow_unix_socket = True


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Leave the servers to the next run, except in CI, which must leave nothing running."""
    if started and in_ci() and "PYTEST_XDIST_WORKER" not in os.environ:
        started.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser"):
        demand_chromium()


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Return the path of the machine's own Chromium."""
    return demand_chromium()


@pytest.fixture
def chromium(chromium_path: str, monkeypatch: pytest.MonkeyPatch) -> "Iterator[Browser]":
    """Return a browser beside which the ORM may be used."""
    from playwright.sync_api import expect, sync_playwright

    # Playwright's loop runs in this thread; the ORM is used between its calls, never within one.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


def demand_chromium() -> str:
    """Return Chromium's path; without it skip, or in CI, where the browser tests must run, fail."""
    if CHROMIUM:
        return CHROMIUM
    if in_ci():
        pytest.fail(f"{NO_CHROMIUM}, and in CI the browser tests must run", pytrace=False)
    pytest.skip(NO_CHROMIUM)
