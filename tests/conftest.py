"""The cast: Alice owns Acme, Bob belongs to it in a lesser role, Charlie has an organization of his own."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection

from accounts import queueing
from accounts.models import Membership, Organization, User
from tests import migrated
from usage import dimensions, partitions

_DATABASE = {"db", "transactional_db", "live_server"}
NOW = datetime(2026, 10, 15, 9, 30, tzinfo=UTC)
PASSWORD = "correct horse battery"


@pytest.hookimpl(trylast=True)  # after pytest-django, which puts them at the end
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one worker migrate with the first test while others run those without a database, then journeys, then all."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    items.sort(key=lambda item: 2 if _needs_database(item) else int("portal" in item.fixturenames))
    first = next((number for number, item in enumerate(items) if _needs_database(item)), 0)
    items[: first + 1] = [*items[first : first + 1], *items[:first]]


def _needs_database(item: pytest.Item) -> bool:
    return bool(item.get_closest_marker("django_db") or _DATABASE & {*item.fixturenames})


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Have a migrated copy stand where pytest-django, by `--reuse-db`, looks for the database of this worker."""
    creation = connection.creation
    migrated.copy(creation._get_test_db_name(), os.environ["DATABASE_URL"], migrated.default_lock())


@pytest.fixture
def now() -> datetime:
    """Return the instant at which every domain test happens."""
    return NOW


@pytest.fixture(autouse=True)
def _fresh_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    cache.clear()
    monkeypatch.setattr(queueing._Broker, "away_until", 0.0)
    dimensions.forget()
    partitions.forget()


@pytest.fixture
def make_user(db: None) -> Callable[..., User]:
    def make(email: str, **fields: object) -> User:
        return User.objects.create_user(email, PASSWORD, **fields)

    return make


@pytest.fixture
def make_organization(db: None) -> Callable[..., Organization]:
    def make(reference: str, *, owner: User | None = None, **fields: object) -> Organization:
        defaults = {"name": reference.title(), "currency": "USD", "time_zone": "UTC", "created_at": NOW}
        organization = Organization.objects.create(reference=reference, **{**defaults, **fields})
        if owner is not None:
            join(organization, owner, Membership.Role.OWNER)
        return organization

    return make


def only_long(*values: Any) -> list[Any]:
    """Return parameters that `make test` leaves to `make test-long`."""
    return [pytest.param(value, marks=pytest.mark.long) for value in values]


def join(organization: Organization, user: User, role: str) -> Membership:
    return Membership.objects.create(organization=organization, user=user, role=role, created_at=NOW)


@pytest.fixture
def alice(make_user: Callable[..., User]) -> User:
    return make_user("alice@acme.example", name="Alice Ames")


@pytest.fixture
def acme(make_organization: Callable[..., Organization], alice: User) -> Organization:
    return make_organization("acme", owner=alice, name="Acme Robotics")


@pytest.fixture
def bob(make_user: Callable[..., User], acme: Organization) -> User:
    user = make_user("bob@acme.example", name="Bob Bell")
    join(acme, user, Membership.Role.VIEWER)
    return user


@pytest.fixture
def charlie(make_user: Callable[..., User]) -> User:
    return make_user("charlie@other.example", name="Charlie Cole")


@pytest.fixture
def other(make_organization: Callable[..., Organization], charlie: User) -> Organization:
    return make_organization("other", owner=charlie, name="Other Inc")
