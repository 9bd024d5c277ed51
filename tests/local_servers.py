"""The ground of all tests: real local servers, no network beyond the loopback, Chromium if there is one.

Loaded with `-p tests.local_servers`, before Django's settings are read.
"""

import os
import shutil
from collections.abc import Iterator

import pytest

from billing_portal.local import servers

started: servers.Servers | None = None
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NO_CHROMIUM = "Chromium is not installed"


def in_ci() -> bool:
    return bool(os.environ.get("CI"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests() -> Iterator[None]:
    """Start the servers before any plugin reads the settings: wrappers run before all others."""
    global started  # noqa: PLW0603 - one session, one pair of servers
    if not (os.environ.get("DATABASE_URL") and os.environ.get("BROKER_URL")):
        started = servers.ensure(servers.default_directory() / "test", durable=False)
        os.environ.setdefault("DATABASE_URL", started.database_url)
        os.environ.setdefault("BROKER_URL", started.broker_url)
    return (yield)


@pytest.hookimpl(tryfirst=True)  # before pytest-socket, whose guard this sets
def pytest_configure(config: pytest.Config) -> None:
    config.option.allow_hosts = config.option.allow_hosts or "127.0.0.1,::1,localhost"
    config.option.allow_unix_socket = True


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Leave the servers to the next run, except in CI, which must leave nothing running."""
    if started and in_ci():
        started.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser"):
        demand_chromium()


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Return the path of the machine's own Chromium."""
    return demand_chromium()


def demand_chromium() -> str:
    """Return Chromium's path; without it skip, or in CI, where the browser tests must run, fail."""
    if CHROMIUM:
        return CHROMIUM
    if in_ci():
        pytest.fail(f"{NO_CHROMIUM}, and in CI the browser tests must run", pytrace=False)
    pytest.skip(NO_CHROMIUM)
