"""Rollups made anew: in shares, under the locks, one or several at once."""

import threading
import time

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import Sum

from billing_portal.ledger import accounts, rollup_rebuilds, settlement
from usage import rollup_checks, rollup_upkeep
from usage.models import CallRange, DailyAgentUsage, DailyUsage, HourlyUsage

pytestmark = pytest.mark.django_db


@pytest.fixture
def settled(with_calls, now):
    """Three organizations with calls that are settled, and one without any."""
    organizations = [with_calls(f"of-{count}", count) for count in (5, 30, 20)]
    for each in organizations:
        settlement.settle_all(each.pk, now=now)
    return [*organizations, with_calls("idle", 0)]


def cells():
    return [list(table.objects.order_by("pk").values()) for table in (DailyUsage, DailyAgentUsage, HourlyUsage)]


def falsify():
    for table in (DailyUsage, DailyAgentUsage, HourlyUsage):
        assert table.objects.update(micros=1)


def test_i09_all_rollups_come_out_as_they_were_whatever_stood_there(settled, capsys):
    before = cells()
    falsify()
    call_command("rebuild_usage")
    assert cells() == before
    assert rollup_checks.differing() == []
    assert "55 of 55 calls, 4 of 4 organizations" in capsys.readouterr().out


def test_one_organization_is_rebuilt_and_no_other_touched(settled, capsys):
    falsify()
    call_command("rebuild_usage", organization="of-30")
    assert [bool(rollup_upkeep.verify(each.pk)) for each in settled] == [True, False, True, False]
    assert "30 of 30 calls, 1 of 1 organizations" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"organization": "nobody"}, "There is no organization 'nobody'."), ({"at_once": 0}, "1 or")],
)
def test_who_asks_for_what_is_not_there_is_told(settled, options, reason):
    falsify()
    with pytest.raises(CommandError, match=reason):
        call_command("rebuild_usage", **options)
    assert rollup_upkeep.verify(settled[0].pk)


def test_shares_hold_everyone_once_the_largest_first_and_no_more_than_fits(settled, monkeypatch):
    monkeypatch.setattr(rollup_rebuilds, "_SHARE", 25)
    five, thirty, twenty, idle = (each.pk for each in settled)
    assert rollup_rebuilds.shares([five, thirty, twenty, idle]) == [([thirty], 30), ([twenty, five, idle], 25)]
    assert rollup_rebuilds.shares([]) == []


def test_calls_that_wait_for_settlement_are_not_counted(with_calls):
    acme = with_calls("acme", 3)
    assert CallRange.objects.filter(organization=acme, first_sequence=None).exists()
    assert rollup_rebuilds.shares([acme.pk]) == [([acme.pk], 0)]


def test_a_frozen_organization_is_rebuilt_too(settled, now):
    accounts.freeze(settled[0].pk, reason="The proof found a difference.", now=now)
    falsify()
    rollup_rebuilds.rebuild([settled[0].pk])
    assert rollup_upkeep.verify(settled[0].pk) == []


@pytest.mark.django_db(transaction=True)
def test_i09_shares_at_once_come_out_as_one_by_one(settled, monkeypatch):
    monkeypatch.setattr(rollup_rebuilds, "_SHARE", 20)
    before = cells()
    falsify()
    shares = rollup_rebuilds.shares([each.pk for each in settled])
    assert len(shares) == 3
    assert list(rollup_rebuilds.rebuild_all(shares, at_once=2)) == shares
    assert cells() == before


@pytest.mark.django_db(transaction=True)
def test_i09_a_rebuild_waits_for_who_settles(settled):
    acme = settled[1]
    rebuilding = threading.Thread(target=_rebuild, args=(acme.pk,))
    with transaction.atomic():
        accounts.lock(acme.pk)
        rebuilding.start()
        _wait_for_lock()
        DailyUsage.objects.filter(organization=acme).update(micros=1)
    rebuilding.join()
    assert rollup_upkeep.verify(acme.pk) == []


@pytest.mark.django_db(transaction=True)
def test_i09_rebuilding_beside_who_settles_neither_fails_nor_counts_twice(with_calls, now):
    acme = with_calls("acme", 120)
    start, failures = threading.Barrier(4), []

    def repeat(what, times):
        start.wait()
        try:
            for _ in range(times):
                what()
        except Exception as failure:  # shown by the test itself, which is in another thread
            failures.append(failure)
        finally:
            connection.close()

    def settle():
        settlement.settle(acme.pk, now=now, limit=4)

    def rebuild():
        rollup_rebuilds.rebuild([acme.pk])

    threads = [threading.Thread(target=repeat, args=pair) for pair in [(settle, 20)] * 2 + [(rebuild, 20)] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert rollup_upkeep.verify(acme.pk) == []
    assert DailyUsage.objects.aggregate(calls=Sum("calls")) == {"calls": 120}


def _rebuild(organization_id):
    try:
        rollup_rebuilds.rebuild([organization_id])
    finally:
        connection.close()


def _wait_for_lock():
    """Wait until another connection waits for this transaction; fails after ten seconds."""
    for _ in range(200):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
            )
            if cursor.fetchone()[0]:
                return
        time.sleep(0.05)
    pytest.fail("Nothing waited for the lock.")
