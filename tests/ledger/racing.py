"""Eight connections do one verb at the same moment, on a hundred organizations in turn.

That nothing goes wrong proves little. So `prove` does it a second time with that taken out which holds them apart, and
then nearly every trial must go wrong. What went wrong is judged by what the books say and by what the callers were
answered: whoever is refused what he should have got, or is told a repetition by an error of the database, was wronged.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec
import pytest
from django.core.exceptions import MultipleObjectsReturned
from django.db import connection, transaction

from accounts.models import Organization
from billing_portal.ledger import accounts, settlement, verification
from billing_portal.ledger.models import Account
from tests.billing import world
from usage import ingestion

CONNECTIONS = 8
TRIALS = 100
# Few trials in `make test`, all of them in `make test-long`.
FEW_OR_ALL = pytest.mark.parametrize("trials", [8, pytest.param(TRIALS, marks=pytest.mark.long)])
ENOUGH_PERCENT = 90
# Of few trials, chance may spare several.
ENOUGH_PERCENT_OF_FEW = 50
# How long one that is about to write waits until all the others are. With the lock they cannot come so far, so nobody
# waits for them longer than a moment; without it they come together, however busy the machine is.
MOMENT, PATIENCE = 0.003, 1.0
# How long those who are through wait for the last of a trial: a machine that does much else may stand still.
LONGEST = 900

Act = Callable[[Organization, int], object]  # what connection `number` does
Law = Callable[[Organization, list[Any]], None]  # asserts how they were answered, and what the books say
Sabotage = Callable[[pytest.MonkeyPatch], None]
Prepare = Callable[[Organization], None]
Last = Callable[[int], bool]  # by the number of the connection


def without_the_lock(patch: pytest.MonkeyPatch) -> None:
    """Let everybody look at the account, and nobody wait for it."""

    def look_only(organization_id: int, **_: object) -> Account:
        return Account.objects.select_related("organization").get(organization_id=organization_id)

    def look_only_at_many(organization_ids: Iterable[int]) -> list[Account]:
        return [look_only(organization_id) for organization_id in sorted(organization_ids)]

    patch.setattr(accounts, "lock", look_only)
    patch.setattr(accounts, "lock_many", look_only_at_many)


RACED: set[str] = set()
Test = TypeVar("Test", bound=Callable[..., None])


def of(*verbs: str) -> Callable[[Test], Test]:
    """Note which verbs a test races."""

    def note(test: Test) -> Test:
        RACED.update(verbs)
        return test

    return note


def prove(
    organizations: Sequence[Organization],
    act: Act,
    law: Law,
    *,
    sabotage: Sabotage = without_the_lock,
    prepare: Prepare = lambda _: None,
    last: Last = lambda _: False,
) -> None:
    """Assert that the law holds for the first half, and is broken for nearly all of the second, who are sabotaged.

    `last` names connections that write a little later than the others: where it is theirs to spoil what those wrote.
    """
    trials = len(organizations) // 2
    wrong = broken(organizations[:trials], act, law, prepare, last)
    assert not wrong, f"{len(wrong)} trials went wrong, the first: {wrong[0]}"
    with pytest.MonkeyPatch.context() as patch:
        sabotage(patch)
        wrong = broken(organizations[trials:], act, law, prepare, last, patience=PATIENCE)
    enough = ENOUGH_PERCENT if trials >= TRIALS else ENOUGH_PERCENT_OF_FEW
    assert 100 * len(wrong) >= enough * trials, f"unhindered, only {len(wrong)} of {trials} went wrong"


def broken(
    organizations: Sequence[Organization], act: Act, law: Law, prepare: Prepare, last: Last, *, patience: float = MOMENT
) -> list[str]:
    """Hold the race, and return what went wrong, at most one thing for each organization."""
    found = []
    held = hold(organizations, act, prepare, last, patience=patience)
    for organization, answers in zip(organizations, held, strict=True):
        try:
            law(organization, answers)
            assert [str(each) for each in verification.verify(organization.pk)] == []
        except (AssertionError, MultipleObjectsReturned) as difference:
            found.append(f"{organization}: {answers}: {difference}")
    return found


def hold(
    organizations: Sequence[Organization],
    act: Act,
    prepare: Prepare,
    last: Last = lambda _: False,
    *,
    patience: float = MOMENT,
) -> list[list[Any]]:
    """Let all connections act at once on one organization after the other; return how each was answered.

    An answer is what `act` returned, or what it raised. One prepares the trial, once all have ended the one before.
    """
    together = threading.Barrier(CONNECTIONS)
    answers: list[list[Any]] = [[None] * CONNECTIONS for _ in organizations]
    gaps = [_Gap(patience) for _ in organizations]

    def take_part(number: int) -> None:
        try:
            for organization, given, gap in zip(organizations, answers, gaps, strict=True):
                if together.wait(LONGEST) == 0:
                    prepare(organization)
                together.wait(LONGEST)
                with gap.entered(is_last=last(number)):
                    try:
                        given[number] = act(organization, number)
                    except Exception as refusal:
                        given[number] = refusal
        finally:
            connection.close()

    threads = [threading.Thread(target=take_part, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


_WRITES = re.compile(r"\A\s*(INSERT|UPDATE|DELETE)\b|\bINSERT INTO\b")


class _Gap:
    """Where the connections of a trial wait for each other: between what they have read and what they make of it."""

    def __init__(self, patience: float) -> None:
        self.patience, self.arrived, self.changed = patience, 0, threading.Condition()

    @contextmanager
    def entered(self, *, is_last: bool) -> Iterator[None]:
        """Have this connection wait before its first write; one that writes nothing keeps nobody waiting."""
        is_there = False

        def pause(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
            nonlocal is_there
            if not is_there and _WRITES.search(sql):
                is_there = True
                self.arrive()
                with self.changed:
                    self.changed.wait_for(lambda: self.arrived == CONNECTIONS, self.patience)
                if is_last:
                    time.sleep(10 * MOMENT)
            return execute(sql, params, many, context)

        with connection.execute_wrapper(pause):
            yield
        if not is_there:
            self.arrive()

    def arrive(self) -> None:
        with self.changed:
            self.arrived += 1
            self.changed.notify_all()


# ── What they race in ─────────────────────────────────────────────────────────────────────────────────────────────────


def organizations(now: datetime, count: int, *, prefix: str = "org") -> list[Organization]:
    """Open the books of so many organizations, each with a card."""
    rows = [
        Organization(
            name=f"{prefix} {number}",
            reference=f"{prefix}-{number}",
            currency="USD",
            time_zone="UTC",
            created_at=now,
        )
        for number in range(count)
    ]
    with transaction.atomic():
        made = Organization.objects.bulk_create(rows)
        for organization in made:
            accounts.open(organization=organization, now=now.replace(day=1))
        Account.objects.update(has_card=True)
    return made


def record_calls(organizations: Iterable[Organization], each: int, *, now: datetime) -> None:
    """Record that many calls of each, all alike and all of yesterday; nothing is queued if the caller saw to it."""
    world.load_prices()
    items = [
        {
            "call_id": f"call_{number}",
            "organization": organization.reference,
            "call_type": "phone_call",
            "call_status": "ended",
            "start_timestamp": int((now - timedelta(days=1, minutes=number)).timestamp() * 1000),
            "duration_ms": 60_000,
            "products": ["platform", "elevenlabs_tts", "gpt_4o_mini"],
        }
        for organization in organizations
        for number in range(each)
    ]
    for start in range(0, len(items), 1_000):
        batch = [msgspec.json.encode(item) for item in items[start : start + 1_000]]
        assert {answer.status for answer in ingestion.record(batch, now=now)} == {ingestion.RECORDED}


def use(organizations: Sequence[Organization], each: int, *, now: datetime) -> None:
    """Record calls and settle them: without credit, what they cost is owed."""
    record_calls(organizations, each, now=now)
    with transaction.atomic():
        for organization in organizations:
            assert settlement.settle(organization.pk, now=now) == each
