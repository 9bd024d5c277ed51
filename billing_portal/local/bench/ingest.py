"""Calls posted to the API by a customer's platform, against raw COPY of the same rows into the same tables, empty."""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from django.db import connection

from billing_portal.local.bench import Figure, Goal, at_least, at_most, load, portal, rows
from usage import ingestion, partitions

# What one call makes: its row, its key, and its share of a range. Raw COPY writes the newest of them into empty copies.
_COPIED = {
    "usage_callkey": "SELECT k.* FROM usage_callkey k JOIN bench_newest USING (organization_id, key) ORDER BY place",
    "usage_call": "SELECT * FROM usage_call ORDER BY id DESC LIMIT {count}",
    "usage_callrange": "SELECT r.* FROM usage_callrange r WHERE first_id >= (SELECT min(id) FROM bench_newest)",
}
_NEWEST = """
    CREATE TEMPORARY TABLE bench_newest ON COMMIT DROP AS
    SELECT organization_id, id, encode(substring(sha256(call_id::bytea) FOR 16), 'hex')::uuid AS key,
           row_number() OVER (ORDER BY started_at, id) AS place
    FROM (SELECT * FROM usage_call ORDER BY id DESC LIMIT {count}) AS newest"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=100_000, help="in large batches (default: %(default)s)")
    parser.add_argument("--holding", type=int, default=0, help="calls that the tables hold before (default: none)")
    parser.add_argument("--organizations", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=3, help="of everything; the medians count (default: %(default)s)")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield calls a second in batches of 1,000, 5,000, 100, 10 and 1, for repeats, and the CPU that a call takes."""
    organizations = load.organizations(options.organizations)
    partitions.ensure([load.MONTH.date()])
    rows.hold(organizations, options.holding)
    references = [organization.reference for organization in organizations]
    with portal.web() as (port, web):
        sender = _Sender(port, load.key(), web, portal.postmaster())
        sender.post(load.bodies(list(load.calls(4_000, references, seed=_seed())), 500))
        for size, goals in ((1_000, _GOALS), (ingestion.MAX_ITEMS, _NO_GOALS)):
            runs = [_run(sender, references, options.calls, size) for _ in range(options.runs)]
            yield from _of_large(size, goals, runs)
        for size, count, goal in ((100, 20_000, 20_000), (10, 10_000, 5_000), (1, 2_000, 600)):
            rates = []
            for _ in range(options.runs):
                items = list(load.calls(count, references, seed=_seed()))
                seconds, recorded = sender.post(load.bodies(items, size))
                rates.append(recorded / seconds)
            yield Figure(f"calls/s, batches of {size}", statistics.median(rates), "/s", goal=at_least(goal))
        items = list(load.calls(20_000, references, seed=_seed(), personal=True))
        seconds, recorded = sender.post(load.bodies(items, 1_000))
        yield Figure("calls/s with numbers and metadata, batches of 1,000", recorded / seconds, "/s")


@dataclass(frozen=True)
class _Goals:
    """What is wanted of large batches: calls a second beside raw COPY, CPU beside it, repeats beside the first time."""

    through: Goal | None = None
    cpu: Goal | None = None
    again: Goal | None = None


_GOALS = _Goals(through=at_least(0.4), cpu=at_most(4), again=at_least(4))
_NO_GOALS = _Goals()


@dataclass
class _Sender:
    """The platform, and the processes that it keeps busy."""

    port: int
    secret: str
    web: int
    postmaster: int

    def post(self, requests: Sequence[bytes]) -> tuple[float, int]:
        return load.post(self.port, requests, secret=self.secret)

    def cpu(self) -> tuple[float, float]:
        return portal.cpu_of(self.web), portal.cpu_of(self.postmaster)


@dataclass
class _Run:
    """Calls a second, and seconds of CPU, of one run."""

    through: float
    web_cpu: float
    database_cpu: float
    again: float
    otherwise_again: float
    raw: float = field(default=0)
    raw_cpu: float = field(default=0)


def _run(sender: _Sender, references: list[str], count: int, size: int) -> _Run:
    """Post calls, post them again in the same and in other batches, and COPY them raw."""
    items = list(load.calls(count, references, seed=_seed()))
    requests = load.bodies(items, size)
    web, database = sender.cpu()
    seconds, recorded = sender.post(requests)
    web_after, database_after = sender.cpu()
    assert recorded == count, f"{recorded} of {count} calls were recorded"
    again, twice = sender.post(requests)
    otherwise, more = sender.post(load.bodies(items[size // 2 :] + items[: size // 2], size))
    assert twice == more == 0, f"{twice + more} calls were recorded twice"
    run = _Run(
        through=count / seconds,
        web_cpu=(web_after - web) / count,
        database_cpu=(database_after - database) / count,
        again=count / again,
        otherwise_again=count / otherwise,
    )
    run.raw, run.raw_cpu = _raw_copy(count, sender)
    return run


def _of_large(size: int, goals: _Goals, runs: list[_Run]) -> Iterator[Figure]:
    def median(value: Callable[[_Run], float]) -> float:
        return statistics.median(map(value, runs))

    ratio = median(lambda run: run.through / run.raw)
    through = median(lambda run: run.through)
    yield Figure(f"calls/s, batches of {size:,}", through, "/s", limit=through / ratio, goal=goals.through)
    spent = median(lambda run: run.web_cpu + run.database_cpu) * 1e6
    times = median(lambda run: (run.web_cpu + run.database_cpu) / run.raw_cpu)
    yield Figure("CPU a call, web and database", spent, "µs", limit=spent / times, goal=goals.cpu)
    yield Figure("  of it the web processes", median(lambda run: run.web_cpu) * 1e6, "µs")
    times = median(lambda run: run.again / run.through)
    yield Figure("calls/s, the same batches again", times * through, "/s", limit=through, goal=goals.again)
    times = median(lambda run: run.otherwise_again / run.through)
    yield Figure("calls/s, the same calls in other batches", times * through, "/s", limit=through)


def _raw_copy(count: int, sender: _Sender) -> tuple[float, float]:
    """Return (calls a second, CPU seconds a call) of raw binary COPY of the newest calls, their keys and ranges."""
    encoded = _encode(count)
    with connection.cursor() as cursor:
        for table in _COPIED:
            cursor.execute(f"CREATE TABLE bench_{table} (LIKE {table} INCLUDING ALL) {_PARTITIONED.get(table, '')}")
        for part in range(8):
            cursor.execute(
                f"CREATE TABLE bench_key_{part} PARTITION OF bench_usage_callkey"
                f" FOR VALUES WITH (MODULUS 8, REMAINDER {part})"
            )
        cursor.execute("CREATE TABLE bench_month PARTITION OF bench_usage_call DEFAULT")
        cpu = portal.cpu_of(sender.postmaster)
        started = time.perf_counter()
        for table, content in encoded.items():
            with cursor.copy(f"COPY bench_{table} FROM STDIN (FORMAT BINARY)") as stream:
                stream.write(content)
        seconds = time.perf_counter() - started
        spent = portal.cpu_of(sender.postmaster) - cpu
        cursor.execute("DROP TABLE bench_usage_call, bench_usage_callkey, bench_usage_callrange")
    return count / seconds, spent / count


_PARTITIONED = {"usage_call": "PARTITION BY RANGE (started_at)", "usage_callkey": "PARTITION BY HASH (key)"}


def _encode(count: int) -> dict[str, bytes]:
    """Return the newest calls, keys and ranges as files for COPY."""
    encoded = {}
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(_NEWEST.format(count=count))
        for table, query in _COPIED.items():
            with cursor.copy(f"COPY ({query.format(count=count)}) TO STDOUT (FORMAT BINARY)") as stream:
                encoded[table] = b"".join(bytes(block) for block in stream)
        cursor.execute("COMMIT")
    return encoded


def _seed() -> int:
    """Return a seed that no run on these tables had before."""
    return time.time_ns()
