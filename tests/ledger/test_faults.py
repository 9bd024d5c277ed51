"""The ledger's tasks when things around them break: afterwards the books are as if nothing had happened."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection

from accounts.models import Letter, Organization
from billing_portal.ledger import alerts, credits, limits, reservations, settlement, tasks, totals, verification
from billing_portal.ledger.models import Alert, Check, Entry, Grant, Reservation
from tests.ledger import racing
from usage import rollup_upkeep

pytestmark = pytest.mark.django_db(transaction=True)

OCTOBER = date(2026, 10, 1)
CALLS = 5
_WRITE = re.compile(r"\A\s*(INSERT|UPDATE|DELETE)\b|\bINSERT INTO\b")


@pytest.fixture(autouse=True)
def _the_broker_loses_everything(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)
    monkeypatch.setattr("accounts.clock.now", lambda: now)


@pytest.fixture
def organizations(now: datetime) -> list[Organization]:
    """Some, all alike: calls that wait, credit for a part of them, credit past its expiry, a cap, a hold for a call."""
    made = racing.organizations(now, 12)
    racing.record_calls(made, CALLS, now=now)
    for each in made:
        give(each, now, "alive", None)
        give(each, now - timedelta(days=9), "over", now - timedelta(days=1))
        alerts.set(each.pk, alerts.Terms(recipients=("finance@acme.example",)), by=None, now=now)
        limits.set(each.pk, limits.Terms(cap_micros=5_000_000), by=None, now=now)
        reservations.reserve(each.pk, reservations.Wish("call", 100_000, 600, call_id="call_0"), now=now)
        limits.set(each.pk, limits.Terms(cap_micros=200_000), by=None, now=now)
    return made


def give(organization: Organization, now: datetime, reference: str, expires_at: datetime | None) -> None:
    fields = {"micros": 100_000, "reference": reference, "reason": "Test", "expires_at": expires_at}
    credits.grant(organization=organization, kind=Grant.Kind.GOODWILL, now=now, **fields)


def books(organization: Organization) -> list[object]:
    """Return what became of an organization, without keys."""
    of = {"organization": organization}
    entries = Entry.objects.filter(**of).order_by("transaction__kind", "book", "grant__reference")
    return [
        list(entries.values_list("transaction__kind", "book", "grant__reference", "micros")),
        totals.month(organization.pk, OCTOBER),
        list(Grant.objects.filter(**of).order_by("id").values_list("reference", "remaining_micros")),
        list(Alert.objects.filter(**of).order_by("gauge", "percent").values_list("gauge", "percent", "is_quiet")),
        list(Reservation.objects.filter(**of).values_list("reference", "state")),
        Letter.objects.filter(**of).count(),
        [str(each) for each in verification.verify(organization.pk)],
        rollup_upkeep.verify(organization.pk),
    ]


def all_tasks(organization: Organization) -> list[Callable[[], object]]:
    return [
        lambda: tasks.settle_organization(organization.pk),
        tasks.settle_waiting,
        tasks.expire_credit,
        tasks.sweep_alerts,
        tasks.sweep_reservations,
        lambda: tasks.check_books_of(organization.pk),
    ]


def test_f20_what_was_never_queued_the_sweeps_find(organizations: list[Organization]) -> None:
    sweeps = [tasks.settle_waiting, tasks.expire_credit, tasks.sweep_alerts, tasks.sweep_reservations]
    for sweep in sweeps:
        sweep()
    first = books(organizations[0])
    assert all(books(each) == first for each in organizations)
    month, grants, told, held = first[1:5]
    assert month.gross_micros == month.accrued_micros + 100_000 > 200_000  # type: ignore[attr-defined]
    assert grants == [("alive", 0), ("over", 0)]
    assert told
    assert held == [("call", "used")]


def test_f21_f23_tasks_delivered_again_and_all_at_once_change_nothing(organizations: list[Organization]) -> None:
    """Every task on eight connections at once: by two schedulers, and again after a visibility timeout."""
    control, *others = organizations
    for task in all_tasks(control):
        task()
    expected = books(control)

    def act(organization: Organization, _: int) -> None:
        for task in all_tasks(organization):
            task()

    assert racing.hold(others, act, lambda _: None) == [[None] * racing.CONNECTIONS] * len(others)
    for each in others:
        assert books(each) == expected
        assert Check.objects.get(organization=each).differences == 0
        act(each, 0)
        assert books(each) == expected


@contextmanager
def cut_before_write(number: int) -> Iterator[list[str]]:
    """Have PostgreSQL end our connection before so many writes were done; yields the writes that were tried."""
    tried: list[str] = []

    def watch(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if _WRITE.search(sql):
            tried.append(sql)
            if len(tried) == number:
                terminate(connection.connection.info.backend_pid)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield tried


def terminate(backend_pid: int) -> None:
    where = connection.get_connection_params()
    with psycopg.connect(
        host=where.get("host"), port=where.get("port"), user=where["user"], dbname="postgres"
    ) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [backend_pid])


def test_f15_a_connection_cut_in_the_middle_leaves_nothing_and_the_next_one_does_it(
    organizations: list[Organization], now: datetime
) -> None:
    control, *others = organizations
    with cut_before_write(0) as writes:
        settlement.settle(control.pk, now=now)
    expected = books(control)
    assert 3 <= len(writes) <= len(others)
    for number, organization in enumerate(others[: len(writes)], start=1):
        before = books(organization)
        with cut_before_write(number), pytest.raises(OperationalError):
            settlement.settle(organization.pk, now=now)
        connection.close()
        assert books(organization) == before
        settlement.settle(organization.pk, now=now)
        assert books(organization) == expected
