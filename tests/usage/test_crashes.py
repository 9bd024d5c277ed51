"""PostgreSQL and the web server are killed under load: what was answered is there, once, and charged once."""

import contextlib
import itertools
import random
import signal
import time
from collections import Counter

import psycopg
import pytest

from tests.usage import crash_world

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(900), pytest.mark.xdist_group("crashes")]

WAYS = {
    "PostgreSQL by SIGKILL": lambda world: world.kill_postgres(signal.SIGKILL),
    "one web process by SIGKILL": lambda world: world.kill_worker(),
    "PostgreSQL at once": lambda world: world.kill_postgres(signal.SIGQUIT),
    "one of PostgreSQL's processes by SIGKILL": lambda world: world.kill_backend(),
    "the whole web server by SIGKILL": lambda world: world.kill("web"),
    "the settler by SIGKILL": lambda world: world.kill("settler"),
}


@pytest.fixture(scope="module")
def world(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), crash_world.running() as world:
        yield world


@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.long)])
def test_f26_i04_i06_i08_killed_servers_lose_and_double_nothing(kills, world):
    """A log of answers is compared with the table: after every kill, and at the end with what was charged."""
    rng = random.Random(kills)
    with crash_world.Load(world, f"kill{kills}") as load:
        for number in range(kills):
            load.await_answers(20)
            time.sleep(rng.random() * 0.2)
            list(WAYS.values())[number % len(WAYS)](world)
            assert load.answered() <= set(world.recorded()), "what was answered 2xx is lost"
        load.await_answers(20)
    assert not load.failures
    assert load.waits <= {"5"}
    _compare(load, world)
    assert world.settle_the_rest() == ""
    _charged_once(world)


@pytest.mark.parametrize("part", ["base", pytest.param("pg_wal", marks=pytest.mark.long)])
def test_f26_a_full_disk_refuses_what_it_cannot_hold_and_loses_nothing(part, world):
    """The tables' disk or the log's is full: 503 with Retry-After, and all goes on once there is room."""
    with world.small_disk(part, spare_bytes=24 * 1024 * 1024) as disk:
        with crash_world.Load(world, f"full_{part}") as load:
            load.await_answers(20)
            disk.fill()
            _until_full(world, load)
            refused = len(load.log)
            time.sleep(2)
            assert not any(attempt.answered for attempt in load.log[refused + crash_world.SENDERS :])
            disk.free()
            if part == "pg_wal":
                world.server.start(durable=True)
            assert load.answered() <= set(world.recorded()), "what was answered 2xx is lost"
            load.await_answers(20)
        assert not load.failures
        assert load.waits == {"5"}
        _compare(load, world)
        assert world.settle_the_rest() == ""
        _charged_once(world)


def _until_full(world, load):
    """Return when nothing is answered with 2xx any more; if it is the log's disk, PostgreSQL is down by then."""
    refused, give_up_at = 0, time.monotonic() + 120
    while refused < 3 * crash_world.SENDERS:
        assert time.monotonic() < give_up_at, "the disk does not get full"
        assert not load.failures
        with contextlib.suppress(psycopg.Error), psycopg.connect(world.url, autocommit=True) as connection:
            connection.execute("SELECT pg_switch_wal()")
        time.sleep(0.2)
        refused = sum(1 for _ in itertools.takewhile(lambda each: each.answered is None, reversed(list(load.log))))


def _compare(load, world):
    """Hold the log of answers against the table."""
    attempts = list(load.log)
    assert any(attempt.answered is None for attempt in attempts), "no kill met a request"
    recorded = {call_id: times for call_id, times in world.recorded().items() if call_id.startswith(f"{load.name}_")}
    assert set(recorded) == {call_id for attempt in attempts for call_id in attempt.batch}
    assert set(recorded.values()) == {1}
    said_recorded = Counter()
    for attempt in attempts:
        if attempt.answered:
            # One batch is one transaction: it is there as a whole or not at all.
            assert len(set(attempt.answered)) == 1
            assert attempt.answered[0] in {"recorded", "duplicate"}
            said_recorded.update(attempt.batch if attempt.answered[0] == "recorded" else ())
    assert max(said_recorded.values()) == 1
    unanswered = {attempt.batch for attempt in attempts if attempt.answered is None}
    for batch in unanswered:
        later = [attempt.answered for attempt in attempts if attempt.batch == batch and attempt.answered]
        assert later, "a batch that was sent again got no answer in the end"


def _charged_once(world):
    with psycopg.connect(world.url) as connection:

        def ask(statement):
            return connection.execute(statement).fetchall()

        [(amount,)] = ask("SELECT DISTINCT amount_micros FROM usage_call")
        counted = dict(ask("SELECT organization_id, count(*) FROM usage_call GROUP BY 1"))
        assert dict(ask("SELECT organization_id, count(*) FROM usage_callkey GROUP BY 1")) == counted
        settled = (
            "SELECT organization_id, sum(last_sequence - first_sequence + 1)::int FROM ledger_settlement GROUP BY 1"
        )
        assert dict(ask(settled)) == counted
        assert dict(ask("SELECT organization_id, max(last_sequence)::int FROM ledger_settlement GROUP BY 1")) == counted
        gross = dict(ask("SELECT organization_id, sum(gross_micros)::bigint FROM ledger_settlement GROUP BY 1"))
        assert gross == {pk: calls * amount for pk, calls in counted.items()}
        assert dict(ask("SELECT organization_id, sum(calls)::int FROM usage_dailyusage GROUP BY 1")) == counted
