"""Settlement, expiry and alerts killed with SIGKILL before and after every lock, write and commit of theirs.

Nobody lists the places: a rehearsal on another organization names them, and so a new statement is a new place. After
each kill the sweep goes on, and the books say what they say where nobody died.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from django.db import transaction

from accounts.models import Letter, Organization
from billing_portal.ledger import alerts, credits, limits, settlement, tasks, verification
from billing_portal.ledger.models import Account, Alert, Burn, Entry, Grant, MonthSpend, Settlement, SettlementLine
from tests.billing import killing
from tests.conftest import only_long
from tests.ledger import racing
from usage import rollup_upkeep

pytestmark = pytest.mark.django_db(transaction=True)

CALLS = 6
MOST = 80  # places


@pytest.fixture
def victim(now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[killing.Victim]:
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    with killing.victim() as running:
        yield running


@pytest.fixture
def organizations(victim: killing.Victim, now: datetime) -> list[Organization]:
    """Organizations all alike: calls that wait, two grants that pay for a part of them, one that is past its expiry."""
    made = racing.organizations(now, MOST)
    racing.record_calls(made, CALLS, now=now)
    soon = now + timedelta(days=3)
    terms = alerts.Terms(spend_percents=(50,), credit_percents=(50, 100), recipients=("finance@acme.example",))
    with transaction.atomic():
        for each in made:
            give(each, now, Grant.Kind.PREPAID, 100_000, expires_at=None)
            give(each, now, Grant.Kind.GOODWILL, 100_000, expires_at=soon)
            give(each, now - timedelta(days=9), Grant.Kind.WELCOME, 50_000, expires_at=now - timedelta(days=1))
            alerts.set(each.pk, terms, by=None, now=now)
            limits.set(each.pk, limits.Terms(cap_micros=200_000), by=None, now=now)
    return made


def give(
    organization: Organization, now: datetime, kind: Grant.Kind, micros: int, *, expires_at: datetime | None
) -> None:
    fields = {"kind": kind, "micros": micros, "reference": str(kind), "reason": "Test", "expires_at": expires_at}
    credits.grant(organization=organization, now=now, **fields)


def books(organization: Organization) -> dict[str, object]:
    """Return all that the ledger says of an organization, without keys."""
    columns = {
        Account: ("last_sequence", "accrued_micros", "frozen_at"),
        Grant: ("kind", "amount_micros", "remaining_micros"),
        Settlement: ("month", "first_sequence", "last_sequence", "gross_micros", "accrued_micros"),
        SettlementLine: ("component", "gross_micros", "accrued_micros"),
        Burn: ("grant__kind", "component", "micros"),
        Entry: ("transaction__kind", "book", "grant__kind", "micros"),
        MonthSpend: ("month", "gross_micros", "checked_micros"),
        Alert: ("gauge", "percent", "is_quiet", "used"),
        Letter: ("to",),
    }
    orders = {SettlementLine: ("settlement", "component")}  # the others' keys say in which order they came to be
    return {
        model.__name__: list(
            model.objects.filter(organization=organization).order_by(*orders.get(model, ("pk",))).values_list(*fields)
        )
        for model, fields in columns.items()
    }


def assert_as_if_nobody_had_died(organization: Organization, control: Organization, place: str) -> None:
    assert books(organization) == books(control), place
    assert [str(each) for each in verification.verify(organization.pk)] == [], place
    assert rollup_upkeep.verify(organization.pk) == [], place


@pytest.mark.parametrize("every", [3, *only_long(1)])
def test_f13_f14_i04_a_burn_killed_at_every_lock_write_and_commit(
    victim: killing.Victim, organizations: list[Organization], now: datetime, every: int
) -> None:
    """The task that settles, with the signal that it sends and the alerts that hear of it."""
    control, *others = organizations
    places = [*victim.rehearse("settle", control.pk, now=now), "before send_robust", "after send_robust"]
    assert {
        "after LOCK ledger_account 1",
        "after UPDATE usage_callrange 1",
        "after INSERT ledger_settlement 1",
        "after INSERT ledger_transaction 1",
        "before COMMIT 1",
        "after COMMIT 1",
        "after INSERT ledger_alert 1",
    } <= {*places}
    assert 30 <= len(places) <= len(others)
    places = places[::every]
    for place, organization in zip(places, others, strict=False):
        victim.kill(place, "settle", organization.pk, now=now)
    tasks.settle_waiting()
    tasks.sweep_alerts()
    for place, organization in zip(places, others, strict=False):
        assert_as_if_nobody_had_died(organization, control, place)


def test_f13_f14_i01_an_expiry_killed_at_every_lock_write_and_commit(
    victim: killing.Victim, organizations: list[Organization], now: datetime
) -> None:
    control, *others = organizations
    places = victim.rehearse("expire", control.pk, now=now)
    assert {"after INSERT ledger_entry 1", "after UPDATE ledger_grant 1", "after COMMIT 1"} <= {*places}
    assert len(places) <= len(others)
    for place, organization in zip(places, others, strict=False):
        victim.kill(place, "expire", organization.pk, now=now)
        credits.expire(organization.pk, now=now)
        assert_as_if_nobody_had_died(organization, control, place)
    tasks.expire_credit()
    assert not Grant.objects.filter(kind=Grant.Kind.WELCOME, remaining_micros__gt=0).exists()


@pytest.mark.long
def test_f13_f14_an_alert_killed_at_every_lock_write_and_commit(
    victim: killing.Victim, organizations: list[Organization], now: datetime
) -> None:
    control, *others = organizations
    settlement.settle_many([each.pk for each in organizations], now=now)
    places = victim.rehearse("alert", control.pk, now=now)
    assert {"after INSERT ledger_alert 1", "after INSERT accounts_letter 1", "after COMMIT 1"} <= {*places}
    assert len(places) <= len(others)
    for place, organization in zip(places, others, strict=False):
        victim.kill(place, "alert", organization.pk, now=now)
    for organization in others:
        alerts.check(organization.pk, now=now)
        assert_as_if_nobody_had_died(organization, control, "of an alert")
