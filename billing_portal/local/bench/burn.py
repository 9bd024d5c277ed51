"""Charges settled a second, in batches and one by one, beside pgbench's simple-update with as many writers.

Writers are workers as they run for days: each settles a first round, unmeasured, that it may learn prices and plans.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from typing import NamedTuple

from django.db import connection, connections

from accounts import garbage
from accounts.models import Organization
from billing_portal.ledger import accounts, credits, periods, settlement
from billing_portal.ledger.models import Grant
from billing_portal.local import pgbench
from billing_portal.local.bench import Figure, at_least, load, portal
from usage import ingestion, partitions

_WRITERS = 8
_NOW = load.MONTH + timedelta(hours=6)
_SPAN = timedelta(hours=3)
_GRANTS = 3

Work = Callable[[], object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--organizations", type=int, default=1_000)
    parser.add_argument("--each", type=int, default=200, help="calls of each in a batch (default: %(default)s)")
    parser.add_argument("--hot", type=int, default=100_000, help="calls of the one that is hot (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="of single burns (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="of each yardstick (default: %(default)s)")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield charges a second. In batches credit runs out within, so that card and credit both take part.

    Below each stands the same for a second of CPU, of database, writers and pgbench alike: what else the machine does
    falls on walls, hardly on that.
    """
    partitions.ensure([load.MONTH.date()])
    *many, hot, single = load.organizations(options.organizations + 2)
    for organization in (*many, hot, single):
        periods.of_instant(accounts.open(organization=organization, now=load.MONTH), load.MONTH)
    shares = [[each.pk for each in many[writer::_WRITERS]] for writer in range(_WRITERS)]
    owners: list[Work] = [partial(_settle_share, share) for share in shares]
    with pgbench.tables():
        batches = [partial(_record_with_credit, many, options.each, seed) for seed in (1, 2)]
        yield from _figures("batches, writers that own their organizations", 25, owners, options.seconds, batches)
        hot_owner = [partial(settlement.settle_all, hot.pk, now=_NOW)]
        hots = [partial(_record_with_credit, [hot], options.hot, seed) for seed in (1, 2)]
        yield from _figures("batches, one hot organization", 18, hot_owner, options.seconds, hots)
        for organization in (*many, single):
            _grant(organization, 10**9)
        singles = [partial(_record, many, 1, seed) for seed in range(3, options.rounds + 4)]
        yield from _figures("single calls, many organizations", 4, owners, options.seconds, singles)
        owner = [partial(settlement.settle_all, single.pk, now=_NOW)]
        waiting = [partial(_record_singly, single, count, seed) for seed, count in ((1, 100), (2, 3_000))]
        yield from _figures("single calls, one hot organization", 1.5, owner, options.seconds, waiting)
        everyone = [partial(_settle_singly, single.pk)] * _WRITERS
        queued = [partial(_record_singly, single, count, seed) for seed, count in ((3, 100), (4, 500))]
        yield from _figures("each of them as a settlement of its own", None, everyone, options.seconds, queued)


class _Spent(NamedTuple):
    """What so many charges or transactions took, in seconds of wall and of CPU."""

    done: float
    wall: float
    cpu: float


def _figures(
    name: str, goal: float | None, work: Sequence[Work], seconds: int, rounds: Sequence[Work]
) -> Iterator[Figure]:
    """Settle what each round records, the first uncounted, and compare with the yardstick, measured just before."""
    before = _cpu_of_pgbench()
    rate = pgbench.updates_a_second(writers=_WRITERS, seconds=seconds)
    yardstick = _Spent(rate * seconds, seconds, _cpu_of_pgbench() - before)
    _, *spent = _settled(work, rounds)
    count, wall, cpu = (sum(column) for column in zip(*spent, strict=True))
    bound = None if goal is None else at_least(goal)
    yield Figure(name, count / wall, "/s", limit=yardstick.done / yardstick.wall, goal=bound)
    yield Figure("  for a second of CPU", count / cpu, "/s", limit=yardstick.done / yardstick.cpu)


def _settled(work: Sequence[Work], rounds: Sequence[Work]) -> Iterator[_Spent]:
    """Do each round's recording, then let every writer, a process of its own, work until it is done."""
    context = multiprocessing.get_context("fork")
    connections.close_all()  # a forked process must not share a connection
    turn = context.Barrier(len(work) + 1)
    writers = [context.Process(target=_take_turns, args=(turn, each, len(rounds))) for each in work]
    for writer in writers:
        writer.start()
    for record in rounds:
        record()
        charges, before = _waiting(), _cpu_of(writers)
        turn.wait()
        started = time.perf_counter()
        turn.wait()
        wall = time.perf_counter() - started
        assert _waiting() == 0, "all was settled"
        yield _Spent(charges, wall, _cpu_of(writers) - before)
        turn.wait()
    for writer in writers:
        writer.join()
    assert not any(writer.exitcode for writer in writers), "every writer ends well"


def _take_turns(turn: Barrier, work: Work, rounds: int) -> None:
    connection.ensure_connection()
    garbage.look_less_often()
    for _ in range(rounds):
        turn.wait()
        work()
        turn.wait()  # all are done
        turn.wait()  # and have been looked at
    connection.close()


def _cpu_of(writers: Sequence[BaseProcess]) -> float:
    """Return the CPU seconds of PostgreSQL and of the writers."""
    own = sum(portal.cpu_of(writer.pid) for writer in writers if writer.pid)
    return portal.cpu_of(portal.postmaster()) + own


def _cpu_of_pgbench() -> float:
    """Return the CPU seconds of PostgreSQL and of all processes that were started here and ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return portal.cpu_of(portal.postmaster()) + children.ru_utime + children.ru_stime


def _settle_share(organization_ids: Sequence[int]) -> None:
    while settlement.settle_many(organization_ids, now=_NOW):
        pass


def _settle_singly(organization_id: int) -> None:
    while settlement.settle(organization_id, now=_NOW, limit=1):
        pass


def _record_with_credit(organizations: Sequence[Organization], each: int, seed: int) -> None:
    """Record calls of each, and give credit for half of them."""
    _record(organizations, each, seed)
    _give_credit()


def _record(organizations: Sequence[Organization], each: int, seed: int) -> None:
    """Record calls of each, which wait to be settled."""
    items: list[bytes] = []
    for number, organization in enumerate(organizations):
        items += load.calls(each, [organization.reference], seed=seed * 100_000 + number, span=_SPAN)
    for start in range(0, len(items), ingestion.MAX_ITEMS):
        answers = ingestion.record(items[start : start + ingestion.MAX_ITEMS], now=_NOW)
        assert all(answer.status == ingestion.RECORDED for answer in answers), answers[0]


def _record_singly(organization: Organization, count: int, seed: int) -> None:
    """Record calls one by one, so that each is a range of its own."""
    for item in load.calls(count, [organization.reference], seed=seed, span=_SPAN):
        (answer,) = ingestion.record([item], now=_NOW)
        assert answer.status == ingestion.RECORDED, answer


def _give_credit() -> None:
    """Give whoever waits for settlement credit for half of it, in several grants."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT organization_id, sum(micros) FROM usage_callrange WHERE first_sequence IS NULL GROUP BY 1"
        )
        waiting = {organization_id: int(micros) for organization_id, micros in cursor.fetchall()}
    for organization in Organization.objects.filter(pk__in=waiting):
        for _ in range(_GRANTS):
            _grant(organization, 1 + waiting[organization.pk] // (2 * _GRANTS))


def _grant(organization: Organization, micros: int) -> None:
    reference = f"bench {time.perf_counter_ns()}"
    credits.grant(organization=organization, kind=Grant.Kind.PREPAID, micros=micros, reference=reference, now=_NOW)


def _waiting() -> int:
    """Return how many charges wait for settlement."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(last_id - first_id + 1), 0) FROM usage_callrange WHERE first_sequence IS NULL"
        )
        return int(cursor.fetchone()[0])
