"""The tasks around settlement."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from accounts import queueing
from accounts.models import Organization
from billing_portal.ledger import accounts, credits, settlement_rows, tasks
from billing_portal.ledger.models import Account, Grant, Settlement
from billing_portal.ledger.signals import usage_settled
from tests.ledger.test_buckets import START, books, bucket, resolve

__all__ = ["books"]

pytestmark = pytest.mark.django_db


# As they are, before the tests below keep settlement from being queued.
ASK, ASK_ALL = tasks.ask_to_settle, tasks.ask_to_settle_all


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
    monkeypatch.setattr(tasks.reservations, "use_recorded", lambda each, *, now: tried.append((each, now)))
    tasks.sweep_reservations()
    assert tried == [(other.pk, now.replace(year=now.year + 1))]


def test_a_settlement_is_asked_for_once_until_it_has_begun(with_calls, other, monkeypatch):
    acme = with_calls("acme", 0)
    asked, claimed = [], []
    claim = queueing.claim
    monkeypatch.setattr(
        tasks.queueing, "claim", lambda key, *, seconds: [claimed.append(seconds), claim(key, seconds=seconds)][1]
    )
    monkeypatch.setattr(tasks.queueing, "send", lambda task, *args, countdown: asked.append((task, *args, countdown)))
    for _ in range(2):
        ASK(acme.pk)
        ASK(other.pk)
        ASK_ALL()
    assert asked == [
        (tasks.settle_organization, acme.pk, 1),
        (tasks.settle_organization, other.pk, 1),
        (tasks.settle_waiting, 1),
    ]
    assert set(claimed) == {30}
    tasks.settle_organization(acme.pk)
    tasks.settle_waiting()
    for ask in (lambda: ASK(acme.pk), lambda: ASK(other.pk), ASK_ALL):
        ask()
    assert asked[3:] == [(tasks.settle_organization, acme.pk, 1), (tasks.settle_waiting, 1)]


def test_shares_hold_everyone_once(monkeypatch):
    monkeypatch.setattr(tasks, "_SHARE", 2)
    assert tasks._shares([1, 2, 3, 4, 5]) == [[1, 2], [3, 4], [5]]
    assert tasks._shares([]) == []


def test_who_watches_hears_when_it_was_settled_one_by_one_and_together(with_calls, now, monkeypatch):
    later, told, used = now.replace(year=now.year + 1), [], []
    monkeypatch.setattr(tasks.reservations, "use_recorded", lambda each, *, now: used.append((each, now)))

    def hear(sender, organization_id, now, **_):
        told.append((organization_id, now))

    usage_settled.connect(hear, sender=Account)
    try:
        alone, together = with_calls("alone", 2), with_calls("together", 2)
        tasks.settle_organization(alone.pk)
        tasks.settle_waiting()
    finally:
        usage_settled.disconnect(hear, sender=Account)
    assert told == used == [(alone.pk, later), (together.pk, later)]


def test_outcomes_that_wait_are_settled_one_organization_after_another(books, other, heard, monkeypatch, now):
    accounts.open(organization=other, now=START)
    for organization in (books, other):
        resolve(organization, "c_1", now=now)
    settle, settled = tasks._settle, []
    monkeypatch.setattr(tasks, "_settle", lambda each, *, now: [settled.append((each, now)), settle(each, now=now)])
    tasks.settle_waiting()
    assert settled == [(each.pk, now.replace(year=now.year + 1)) for each in (books, other)]
    assert heard == [books.pk, other.pk]
    assert set(Settlement.objects.values_list("organization_id", "source")) == {
        (books.pk, "outcomes"),
        (other.pk, "outcomes"),
    }


def test_f50_a_bucket_whose_term_is_over_ends_once_its_outcomes_are_settled(books, make_organization, now, monkeypatch):
    names = ("frozen", "going-on", "used-up", "single")
    frozen, going_on, used_up, single = (make_organization(name) for name in names)
    ends = START + timedelta(days=2)
    for organization in (frozen, going_on, used_up, single):
        accounts.open(organization=organization, now=START)
    over = [bucket(each, 3, expires_at=ends) for each in (books, frozen)]
    over.append(bucket(single, 1, expires_at=ends))
    held = bucket(going_on, 3, expires_at=now.replace(year=now.year + 2))
    empty = bucket(used_up, 1, expires_at=ends)
    for organization in (books, used_up):
        resolve(organization, "c_1", now=now)  # within the term, and not settled yet
    tasks._settle(used_up.pk, now=now)
    accounts.freeze(frozen.pk, reason="A difference", now=now)
    tried = []
    expire = tasks._expire_buckets
    monkeypatch.setattr(tasks, "_expire_buckets", lambda each, *, now: [tried.append(each), expire(each, now=now)])
    tasks.expire_buckets()
    tasks.expire_buckets()
    assert tried == [books.pk, single.pk]
    for each in (*over, held, empty):
        each.refresh_from_db()
    assert [each.remaining_units for each in (*over, held, empty)] == [0, 3, 0, 3, 0]
    assert list(over[0].entries.order_by("id").values_list("kind", "units")) == [
        ("bought", 3),
        ("used", -1),
        ("expired", -2),
    ]


def test_f24_credit_and_buckets_of_one_that_cannot_be_expired_hold_up_no_other(with_calls, now, monkeypatch):
    ends = now + timedelta(days=1)
    made = [with_calls(name, 0) for name in ("a", "b", "c")]
    later, spent = with_calls("later", 0), with_calls("spent", 0)
    for organization, micros in zip([*made, later, spent], (9, 9, 1, 9, 9), strict=True):
        expires_at = ends.replace(year=now.year + 2) if organization == later else ends
        credits.grant(
            organization=organization, kind="welcome", micros=micros, reference="w", now=now, expires_at=expires_at
        )
    Grant.objects.filter(organization=spent).update(remaining_micros=0)
    tried, expire = [], credits.expire

    def failing(organization_id, *, now):
        tried.append(organization_id)
        assert organization_id != made[0].pk, "a poison"
        return expire(organization_id, now=now)

    monkeypatch.setattr(credits, "expire", failing)
    tasks.expire_credit()
    assert tried == [each.pk for each in made]
    assert list(Grant.objects.order_by("organization_id").values_list("remaining_micros", flat=True)) == [9, 0, 0, 9, 0]
