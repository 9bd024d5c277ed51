"""Calls posted to the API by a customer's platform, against raw COPY of the same rows into the same empty tables."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

from billing_portal.local import processes
from billing_portal.local.bench import Figure, at_least, at_most, load
from usage import partitions

_COLUMNS = (
    "organization_id, id, started_at, duration_ms, llm_tokens, llm_requests, mix_id, kind_id, agent_id, revision,"
    " ended_at, amount_micros, call_id, line_micros"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=100_000, help="in batches of 1,000 (default: %(default)s)")
    parser.add_argument("--organizations", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=3, help="of everything; the medians count (default: %(default)s)")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield calls a second in batches of 1,000, 100, 10 and 1, for repeats, and what a call takes on disk."""
    organizations = load.organizations(options.organizations)
    references = [organization.reference for organization in organizations]
    partitions.ensure([load.MONTH.date()])
    secret = load.key()
    with _web() as (port, web):
        load.post(port, load.bodies(list(load.calls(2_000, references, seed=99)), 500), secret=secret)
        raw, through, twice, web_cpu, database_cpu, raw_cpu = [], [], [], [], [], []
        for run in range(options.runs):
            items = list(load.calls(options.calls, references, seed=run))
            requests = load.bodies(items, 1_000)
            cpu = _cpu_of(web), _cpu_of(_postmaster())
            seconds, recorded = load.post(port, requests, secret=secret)
            web_cpu.append((_cpu_of(web) - cpu[0]) / recorded)
            database_cpu.append((_cpu_of(_postmaster()) - cpu[1]) / recorded)
            through.append(recorded / seconds)
            seconds, again = load.post(port, requests, secret=secret)
            assert recorded == options.calls, f"{recorded} of {options.calls} calls were recorded"
            assert again == 0, f"{again} calls were recorded twice"
            twice.append(len(items) / seconds)
            cpu_before = _cpu_of(_postmaster())
            raw.append(_raw_copy(options.calls))
            raw_cpu.append((_cpu_of(_postmaster()) - cpu_before) / options.calls)
        limit = _median(raw)
        yield Figure("calls/s, batches of 1,000", _median(through), "/s", limit=limit, goal=at_least(0.4))
        spent = (_median(web_cpu) + _median(database_cpu)) * 1e6
        yield Figure("CPU a call, web and database", spent, "µs", limit=_median(raw_cpu) * 1e6, goal=at_most(4))
        yield Figure("  of it the web processes", _median(web_cpu) * 1e6, "µs")
        yield Figure("calls/s, the same batches again", _median(twice), "/s", limit=_median(through), goal=at_least(4))
        for size, count, goal in ((100, 20_000, 20_000), (10, 10_000, 5_000), (1, 2_000, 600)):
            items = list(load.calls(count, references, seed=1_000 + size))
            seconds, recorded = load.post(port, load.bodies(items, size), secret=secret)
            yield Figure(f"calls/s, batches of {size}", recorded / seconds, "/s", goal=at_least(goal))
        items = list(load.calls(20_000, references, seed=7, personal=True))
        seconds, recorded = load.post(port, load.bodies(items, 1_000), secret=secret)
        yield Figure("calls/s with numbers and metadata, batches of 1,000", recorded / seconds, "/s")
    yield from _disk()


def _disk() -> Iterator[Figure]:
    """Yield the bytes a call takes: tables and indexes of calls, keys and ranges."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM usage_call")
        calls = cursor.fetchone()[0]
        for name, tables in (("call with its key and range", ("usage_call", "usage_callkey", "usage_callrange")),):
            cursor.execute(
                "SELECT sum(pg_total_relation_size(relid)) FROM unnest(%s::text[]) AS parent,"
                " pg_partition_tree(parent::regclass)",
                [list(tables)],
            )
            goal = at_most(340)
            yield Figure(f"disk of one {name}", float(cursor.fetchone()[0]) / calls, "B", goal=goal)


def _raw_copy(count: int) -> float:
    """Return rows a second of one raw binary COPY of the newest `count` calls into an empty copy of their table."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bench_call (LIKE usage_call INCLUDING ALL) PARTITION BY RANGE (started_at)")
        cursor.execute("CREATE TABLE bench_call_1 PARTITION OF bench_call DEFAULT")
        source = f"COPY (SELECT {_COLUMNS} FROM usage_call ORDER BY id DESC LIMIT {count}) TO STDOUT (FORMAT BINARY)"  # noqa: S608
        with cursor.copy(source) as stream:
            encoded = b"".join(bytes(block) for block in stream)
        started = time.perf_counter()
        with cursor.copy(f"COPY bench_call ({_COLUMNS}) FROM STDIN (FORMAT BINARY)") as stream:
            stream.write(encoded)
        seconds = time.perf_counter() - started
        cursor.execute("DROP TABLE bench_call")
    return count / seconds


@contextmanager
def _web() -> Iterator[tuple[int, int]]:
    """Yield the port and the process number of two web processes, as they run in production."""
    port = processes.free_port()
    command = [sys.executable, "-m", "gunicorn", "billing_portal.wsgi", "--bind", f"127.0.0.1:{port}", "--preload"]
    log = Path(os.environ["LOCAL_DIR"]) / "web.log"
    with log.open("wb") as output:
        web = subprocess.Popen(  # noqa: S603 - our own program
            [*command, "--workers", "2", "--threads", "4"], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while processes.is_free(port):
                time.sleep(0.1)
            yield port, web.pid
        finally:
            web.terminate()
            web.wait()


def _postmaster() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_read_file('postmaster.pid')")
        return int(cursor.fetchone()[0].split()[0])


def _cpu_of(process: int) -> float:
    """Return the CPU seconds of a process and of all its children, those that ended included."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    own = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(map(int, own[11:15]))
    for child in children:
        try:
            stat = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        ticks += sum(map(int, stat[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
