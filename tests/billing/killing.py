"""Killing a process at a named place: the side of the test. `tests.billing.victim` is the one that dies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import connection

from tests.billing.test_month_end_killed import ROOT, database_url

# On a busy machine the dead take their time to go; that they do go is what counts.
PATIENCE_SECONDS = 300


def of_write(reference: str) -> list[str]:
    """Return the places around a write to Stripe: before its intent, before the call, after the answer, after all."""
    return [
        f"before {reference} _record",
        f"before {reference} _send",
        f"before {reference} _done",
        f"after {reference} _done",
    ]


def until_effect(reference: str) -> list[str]:
    """Return the places around a write until it had its effect, where who goes on sees that and writes no more."""
    return of_write(reference)[:3]


_OTHERS_LOCKS = """
    SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE datname = current_database() AND locktype = 'advisory' AND pid <> pg_backend_pid()"""


def wait_until_let_go() -> None:
    """Wait for the locks of the dead: they go with their connections, a moment later."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute(_OTHERS_LOCKS)
            if cursor.fetchone() == (0,):
                return
            time.sleep(0.01)
    raise AssertionError("the dead hold their locks")


class Victim:
    """A process that does one verb after the other, and dies of it if it is told to."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def kill(self, place: str, verb: str, subject: int, *, now: datetime, within: str = "") -> None:
        """Let it do the verb and kill it at the place; fail if that was not reached, or it did not die of it."""
        answer = self._order(place=place, verb=verb, id=subject, now=now.isoformat(), within=within)
        assert (answer["reached"], answer["ended"]) == (True, -signal.SIGKILL), (place, answer)
        wait_until_let_go()

    def rehearse(self, verb: str, subject: int, *, now: datetime, within: str = "") -> list[str]:
        """Let it do the verb to its end; return the places before and after each lock, write and commit on the way."""
        answer = self._order(place="", verb=verb, id=subject, now=now.isoformat(), within=within)
        assert answer["ended"] == 0, answer
        return [f"{when} {statement}" for statement in answer["statements"] for when in ("before", "after")]

    def _order(self, **order: object) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        while not (said := self.process.stdout.readline()).startswith("{"):
            assert said, "the victim is gone"
        answer: dict[str, Any] = json.loads(said)
        return answer


@contextmanager
def victim(**environment: str) -> Iterator[Victim]:
    """Start the victim on the tests' database."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.billing.victim"],
        cwd=ROOT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings", "DATABASE_URL": database_url(), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    while "ready" not in (said := process.stdout.readline()):
        assert said, "the victim did not start"
    try:
        yield Victim(process)
    finally:
        process.communicate(timeout=PATIENCE_SECONDS)
