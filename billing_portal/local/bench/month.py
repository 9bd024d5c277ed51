"""A month of calls, posted to the API while workers settle them, then held against every sum that was made of them."""

import argparse
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import accumulate
from multiprocessing.synchronize import Event

import msgspec
from django.db import connection, connections

from accounts import clock
from accounts.models import Organization
from billing_portal.ledger import accounts, credits, periods, settlement, verification
from billing_portal.ledger.models import Grant, Settlement
from billing_portal.local.bench import Figure, at_most, load, portal
from usage import ingestion, partitions, rollup_checks

_FULL, _MINUTES = 30_000_000, 25
_PATTERNS = 1_000
_DRAWN = 100_003  # a prime
_SHARE = 100  # organizations settled together, as the worker does it
_PAUSE_SECONDS = 30  # as settlement is asked for by those who record calls
_SAMPLED_EVERY_SECONDS = 5
_CREDIT_MICROS = 10_000_000
_fork = multiprocessing.get_context("fork")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=3_000_000, help="of the month (default: %(default)s)")
    parser.add_argument("--organizations", type=int, default=2_000)
    parser.add_argument(
        "--batch", type=int, default=ingestion.MAX_ITEMS, help="calls that a request holds (default: %(default)s)"
    )
    parser.add_argument("--settlers", type=int, default=2, help="workers that settle beside (default: %(default)s)")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield how long posting, settling and proving take, what differs, and what memory and disk were needed."""
    organizations = load.organizations(options.organizations)
    partitions.ensure([load.MONTH.date()])
    _open_books(organizations)
    secret = load.key()
    size, postmaster = _disk(), portal.postmaster()
    with portal.web() as (port, web), _Settlers(organizations, options.settlers) as settlers:
        peak = _Peak(web, postmaster, *settlers.pids)
        busy = {"web": portal.cpu_of(web), "PostgreSQL": portal.cpu_of(postmaster), "the platform": time.process_time()}
        started = time.perf_counter()
        posted_seconds, recorded = load.post(
            port,
            _requests(options.calls, [each.reference for each in organizations], size=options.batch),
            secret=secret,
        )
        yield Figure("calls recorded", recorded, "")
        yield Figure("calls/s posted and recorded, settlers beside", recorded / posted_seconds, "/s")
        platform = time.process_time()
        settlers.finish()
        yield Figure("until all was settled", time.perf_counter() - started, "s")
        memory = peak.end()
        ended = os.times()
        busy = {
            "web": portal.cpu_of(web) - busy["web"],
            "settlers": ended.children_user + ended.children_system,
            "PostgreSQL": portal.cpu_of(postmaster) - busy["PostgreSQL"],
            "the platform": platform - busy["the platform"],
        }
        for name, spent in busy.items():
            yield Figure(f"  CPU a call, {name}", spent / options.calls * 1e6, "µs")
    difference = _difference(organizations, options.calls, processes=options.settlers)
    seconds = time.perf_counter() - started
    yield Figure("posted, settled and proved", seconds, "s")
    paced = seconds / options.calls * _FULL / 60
    yield Figure("  at this pace a month of 30 million", paced, "min", goal=at_most(_MINUTES))
    yield Figure("  difference", difference, "micros", goal=at_most(0))
    yield Figure("peak memory of web, settlers and PostgreSQL", memory, "MB")
    yield Figure("disk of the database", (_disk() - size) / 1e6, "MB")
    yield Figure("  a call, settled", (_disk() - size) / options.calls, "B")


def _open_books(organizations: Sequence[Organization]) -> None:
    for organization in organizations:
        periods.of_instant(accounts.open(organization=organization, now=load.MONTH), load.MONTH)
        credits.grant(
            organization=organization,
            kind=Grant.Kind.PREPAID,
            micros=_CREDIT_MICROS,
            reference="bench",
            now=load.MONTH,
        )


def _requests(count: int, references: Sequence[str], *, size: int) -> Iterator[bytes]:
    """Yield the month in requests of `size` calls, each call like one of `load`'s, with an id and a time of its own."""
    patterns = [_pattern(raw) for raw in load.calls(_PATTERNS, references[:1], seed=1)]
    weights = list(accumulate(1 / (rank + 1) for rank in range(len(references))))
    names = [each.encode() for each in random.Random(1).choices(references, cum_weights=weights, k=_DRAWN)]  # noqa: S311
    step_ms = (load.ENDS_AT - load.MONTH - timedelta(hours=1)) / timedelta(milliseconds=1) / count
    first_ms = int(load.MONTH.timestamp() * 1000)
    for first in range(0, count, size):
        items = []
        for number in range(first, min(first + size, count)):
            # Whose a call is and what it is like are drawn anew, by steps that share no divisor with what there is.
            text, lasted_ms = patterns[number * 389 % _PATTERNS]
            at = first_ms + int(number * step_ms)
            items.append(text % (number, names[number * 7919 % _DRAWN], at, at + lasted_ms))
        yield b"[" + b",".join(items) + b"]"


def _pattern(raw: bytes) -> tuple[bytes, int]:
    """Return a call's text with gaps for its id, its organization, its start and its end; and how long it lasted."""
    call = msgspec.json.decode(raw)
    lasted_ms = call["end_timestamp"] - call["start_timestamp"]
    call |= {"call_id": "@", "organization": "@of", "start_timestamp": "@start", "end_timestamp": "@end"}
    text = msgspec.json.encode(call).replace(b"%", b"%%")
    for gap, filled in ((b'"@"', b'"call_%027x"'), (b"@of", b"%b"), (b'"@start"', b"%d"), (b'"@end"', b"%d")):
        text = text.replace(gap, filled)
    return text, lasted_ms


class _Settlers:
    """Processes that settle what waits, each the organizations that are its own, until all is settled at the end."""

    def __init__(self, organizations: Sequence[Organization], count: int) -> None:
        self._is_over = _fork.Event()
        ids = [organization.pk for organization in organizations]
        connections.close_all()  # a forked process must not share a connection
        self._processes = [
            _fork.Process(target=_settle, args=(ids[number::count], self._is_over)) for number in range(count)
        ]
        for process in self._processes:
            process.start()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes if process.pid]

    def finish(self) -> None:
        """Wait until nothing waits."""
        self._is_over.set()
        for process in self._processes:
            process.join()
        assert not any(process.exitcode for process in self._processes), "every settler ends well"

    def __enter__(self) -> "_Settlers":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
            process.join()


def _settle(organization_ids: Sequence[int], is_over: Event) -> None:
    shares = [organization_ids[first : first + _SHARE] for first in range(0, len(organization_ids), _SHARE)]
    while True:
        is_last = is_over.is_set()
        settled = 0
        for share in shares:
            while counts := settlement.settle_many(share, now=clock.now()):
                settled += counts.total()
                if counts.total() < settlement.LIMIT:
                    break
        if is_last and not settled:
            return
        is_over.wait(_PAUSE_SECONDS)


class _Peak:
    """The most memory that some processes and their children ever had."""

    def __init__(self, *roots: int) -> None:
        self._roots, self._most, self._is_over = roots, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._is_over.wait(_SAMPLED_EVERY_SECONDS):
            self._most = max(self._most, portal.memory_of(*self._roots))

    def end(self) -> float:
        """Return the most megabytes."""
        self._is_over.set()
        self._thread.join()
        return max(self._most, portal.memory_of(*self._roots))


def _difference(organizations: Sequence[Organization], calls: int, *, processes: int) -> int:
    """Return by how many micros, or calls, the calls, ranges, rollups, settlements, burns and balances differ."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE usage_call, usage_callrange, ledger_settlement, ledger_settlementline, ledger_entry")
    ids = [organization.pk for organization in organizations]
    connections.close_all()  # a forked process must not share a connection
    with _fork.Pool(processes) as provers:
        in_ledgers = provers.imap_unordered(_difference_in_ledger, ids)
        sums = rollup_checks.differing()
        off = sum(abs(each.micros_of_calls - each.micros_of_ranges) for each in sums)
        off += sum(abs(each.micros_settled - each.micros_of_rollups) for each in sums)
        off += sum(in_ledgers)
    settled = Settlement.objects.filter(organization_id__in=ids, source=Settlement.Source.CALLS)
    numbered = sum(last - first + 1 for first, last in settled.values_list("first_sequence", "last_sequence"))
    return off + abs(calls - numbered)


def _difference_in_ledger(organization_id: int) -> int:
    return sum(abs(each.expected - each.found) for each in verification.verify(organization_id))


def _disk() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])
