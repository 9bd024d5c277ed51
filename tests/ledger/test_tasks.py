"""The tasks around settlement."""

from collections.abc import Callable
from typing import Any

import pytest

from accounts.models import Organization
from billing_portal.ledger import accounts, settlement_rows, tasks
from billing_portal.ledger.models import Account, Settlement
from billing_portal.ledger.signals import usage_settled

pytestmark = pytest.mark.django_db


@pytest.fixture
def heard() -> Any:
    told: list[int] = []

    def hear(sender: Any, organization_id: int, **_: Any) -> None:
        told.append(organization_id)

    usage_settled.connect(hear, sender=Account)
    yield told
    usage_settled.disconnect(hear, sender=Account)


@pytest.fixture(autouse=True)
def _next_year(monkeypatch: pytest.MonkeyPatch, now: Any) -> None:
    monkeypatch.setattr("accounts.clock.now", lambda: now.replace(year=now.year + 1))
    monkeypatch.setattr(tasks, "ask_to_settle", lambda organization_id: None)


def test_who_watches_the_balance_hears_of_a_settlement_and_of_nothing_else(
    with_calls: Callable[..., Organization], heard: list[int]
) -> None:
    acme = with_calls("acme", 3)
    tasks.settle_organization(acme.pk)
    tasks.settle_organization(acme.pk)
    tasks.settle_waiting()
    assert heard == [acme.pk]


def test_a_deaf_listener_keeps_nothing_from_being_settled(
    with_calls: Callable[..., Organization], heard: list[int]
) -> None:
    def break_down(**_: Any) -> None:
        raise RuntimeError("deaf")

    usage_settled.connect(break_down)
    try:
        tasks.settle_organization(with_calls("acme", 3).pk)
    finally:
        usage_settled.disconnect(break_down)
    assert Settlement.objects.count() == len(heard) == 1


def test_f24_an_organization_that_cannot_be_settled_holds_up_no_other(with_calls, now, monkeypatch):
    bad, good = with_calls("bad", 2), with_calls("good", 2)
    write = settlement_rows.write

    def failing(funded, *, now):
        assert bad.pk not in [each.account.organization_id for each in funded], "a poison"
        write(funded, now=now)

    monkeypatch.setattr(settlement_rows, "write", failing)
    tasks.settle_waiting()
    assert list(Settlement.objects.values_list("organization_id", flat=True)) == [good.pk]
    monkeypatch.setattr(settlement_rows, "write", write)
    tasks.settle_waiting()
    assert set(Settlement.objects.values_list("organization_id", flat=True)) == {bad.pk, good.pk}


def test_f20_many_organizations_are_dealt_out_and_settled_here_where_the_broker_is_away(with_calls, heard, monkeypatch):
    waiting = [with_calls(name, 2).pk for name in ("a", "b", "c")]
    monkeypatch.setattr(tasks, "_SHARE", 1)
    dealt = []

    def send(task, share, **_):
        dealt.append((task, share))
        return share != [waiting[2]]

    monkeypatch.setattr(tasks.queueing, "send", send)
    tasks.settle_waiting()
    assert dealt == [(tasks.settle_share, [waiting[1]]), (tasks.settle_share, [waiting[2]])]
    assert heard == [waiting[2], waiting[0]]
    tasks.settle_share([waiting[1]])
    assert set(Settlement.objects.values_list("organization_id", flat=True)) == set(waiting)


def test_a_share_is_settled_together_and_nobody_by_himself(with_calls, heard, monkeypatch):
    waiting = [with_calls(name, 2).pk for name in ("a", "b")]
    monkeypatch.setattr(tasks, "_settle", lambda *_, **__: pytest.fail("by itself"))
    tasks.settle_share(waiting)
    assert heard == waiting


def test_reservations_of_who_is_frozen_wait(acme, other, now, monkeypatch):
    for organization in (acme, other):
        accounts.open(organization=organization, now=now)
    accounts.freeze(acme.pk, reason="A difference", now=now)
    tried = []
    monkeypatch.setattr(tasks.reservations, "organizations_awaiting_calls", lambda: [acme.pk, other.pk])
    monkeypatch.setattr(tasks.reservations, "use_recorded", lambda each, **_: tried.append(each))
    tasks.sweep_reservations()
    assert tried == [other.pk]
