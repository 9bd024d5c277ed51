"""Tasks are queued after the commit or not at all; a broker that is away fails nothing and holds up nobody."""

import re
from pathlib import Path

import pytest
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as CacheAway

from accounts import queueing

ROOT = Path(__file__).resolve().parents[2]


class Task:
    """Keeps what is queued; with `error`, refuses it."""

    name = "task"

    def __init__(self, error: Exception | None = None) -> None:
        self.queued: list[tuple[int, ...]] = []
        self.tries = 0
        self.error = error

    def apply_async(self, args: tuple[int, ...], **_: object) -> None:
        self.tries += 1
        if self.error:
            raise self.error
        self.queued.append(args)


@pytest.mark.django_db(transaction=True)
def test_f22_a_task_is_queued_on_commit_and_never_for_what_is_rolled_back() -> None:
    task = Task()
    with transaction.atomic():
        queueing.on_commit(task, 1)
        assert task.queued == []
    assert task.queued == [(1,)]
    with pytest.raises(RuntimeError), transaction.atomic():
        queueing.on_commit(task, 2)
        raise RuntimeError
    assert task.queued == [(1,)]
    queueing.on_commit(task, 3)
    assert task.queued == [(1,), (3,)]


@pytest.mark.parametrize("error", [OperationalError("no broker"), CacheAway("no cache")])
def test_f20_a_broker_that_is_away_is_asked_once_in_a_while(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    seconds = 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: seconds)
    task = Task(error)
    assert not queueing.send(task, 1)
    assert not queueing.send(task, 2)
    assert task.tries == 1
    seconds += queueing.PAUSE_SECONDS
    task.error = None
    assert queueing.send(task, 3)
    assert task.queued == [(3,)]


def test_a_mistake_in_the_program_is_no_missing_broker() -> None:
    with pytest.raises(TypeError):
        queueing.send(Task(TypeError("no such argument")), 1)


def test_a_burst_claims_once() -> None:
    assert [queueing.claim("burst", seconds=30) for _ in range(3)] == [True, False, False]
    queueing.release("burst")
    assert queueing.claim("burst", seconds=30)


def test_f20_without_the_cache_everyone_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise CacheAway("no cache")

    monkeypatch.setattr("accounts.queueing.cache.add", refuse)
    monkeypatch.setattr("accounts.queueing.cache.delete", refuse)
    assert queueing.claim("burst", seconds=30)
    queueing.release("burst")
    assert not queueing.send(Task(), 1)  # what the cache lives on is the broker


def test_f20_tasks_are_queued_through_this_module_alone() -> None:
    sources = [path for top in ("accounts", "usage", "billing_portal") for path in (ROOT / top).rglob("*.py")]
    found = [
        path
        for path in sources
        if re.search(r"\.(delay|apply_async|send_task)\(|\.(delay|apply_async),", path.read_text())
    ]
    assert found == [ROOT / "accounts/queueing.py"]
