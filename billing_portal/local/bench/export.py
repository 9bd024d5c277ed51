"""A month of calls as a file, as the export streams it, against psql's COPY TO of the same query."""

import argparse
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import connection
from psycopg import ClientCursor

from accounts.models import Organization
from billing_portal.local import postgres
from billing_portal.local.bench import Figure, at_least, at_most, load
from billing_portal.local.pgbench import CannotMeasure
from usage import ingestion, partitions, periods
from usage.calls import Filters
from usage.exports import formats
from usage.exports.formats import FORMATS
from usage.exports.selection import Selection, Style

_SEED = 10_000

# The calls that were recorded are the pattern of all others: the same prices and products, at times of their own.
_MULTIPLY = """
    INSERT INTO usage_call
        (organization_id, id, started_at, ended_at, duration_ms, amount_micros, llm_tokens, llm_requests, mix_id,
         kind_id, agent_id, revision, call_id, line_micros)
    SELECT c.organization_id, c.id + n * 1000000, c.started_at + n * interval '20 minutes',
           c.ended_at + n * interval '20 minutes', c.duration_ms, c.amount_micros, c.llm_tokens, c.llm_requests,
           c.mix_id, c.kind_id, c.agent_id, c.revision, c.call_id || '_' || n, c.line_micros
    FROM usage_call c, generate_series(1, %s) AS n WHERE c.organization_id = %s
    ORDER BY n, c.id"""
_MULTIPLY_RANGES = """
    INSERT INTO usage_callrange
        (organization_id, first_id, last_id, starts_at, ends_at, micros, received_at, first_sequence, billed_month,
         time_zone)
    SELECT organization_id, first_id + n * 1000000, last_id + n * 1000000, starts_at + n * interval '20 minutes',
           ends_at + n * interval '20 minutes', micros, received_at,
           sum(last_id - first_id + 1) OVER (ORDER BY n, first_id) - (last_id - first_id), %s, 'UTC'
    FROM usage_callrange, generate_series(1, %s) AS n WHERE organization_id = %s"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=1_000_000, help="to export (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of each; the medians count (default: %(default)s)")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield rows a second as CSV and JSON Lines beside psql, of the other formats, and what memory it took."""
    organization = _organization(options.calls)
    selection = Selection(organization, Filters(), {load.MONTH.date(): "PV-0001"})
    count = selection.count(most=10 * options.calls)
    yield Figure("calls to export", count, "rows")
    before = most = _memory()
    for name, goal in (("csv", at_least(0.9)), ("jsonl", None), ("focus", None)):
        limits, rates = [], []
        for _ in range(options.runs):
            limits.append(count / _timed(_psql, selection, FORMATS[name].style))
            started = time.perf_counter()
            for _ in FORMATS[name].blocks(selection):
                most = max(most, _memory())
            rates.append(count / (time.perf_counter() - started))
        yield Figure(f"rows/s, {FORMATS[name].label} streamed", _median(rates), "/s", limit=_median(limits), goal=goal)
    yield Figure("memory that grew while all were streamed", most - before, "MB", goal=at_most(32))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "export"
        yield Figure("rows/s, Parquet", count / _timed(formats.write, "parquet", selection, path), "/s")
        yield Figure("  bytes a call", path.stat().st_size / count, "B")


def _organization(calls: int) -> Organization:
    """Return an organization that has so many settled calls in one month."""
    [organization] = load.organizations(1)
    partitions.ensure([load.MONTH.date(), periods.next_month(load.MONTH.date())])
    items = list(load.calls(_SEED, [organization.reference], seed=1))
    for start in range(0, len(items), 1_000):
        ingestion.record(items[start : start + 1_000], now=load.MONTH + timedelta(days=40))
    copies = max(1, calls // _SEED)
    with connection.cursor() as cursor:
        cursor.execute(_MULTIPLY, [copies - 1, organization.pk])
        cursor.execute(_MULTIPLY_RANGES, [load.MONTH.date(), copies - 1, organization.pk])
        cursor.execute("ANALYZE usage_call, usage_callrange")
    return organization


def _psql(selection: Selection, style: Style) -> None:
    """Let psql copy the same rows to nowhere."""
    program = next((found / "psql" for found in postgres.installed() if (found / "psql").exists()), None)
    if program is None:
        raise CannotMeasure("psql was not found beside PostgreSQL's other programs.")
    copied = selection.copy(style, header=style is not Style.JSON)
    connection.ensure_connection()
    statement = ClientCursor(connection.connection).mogrify(copied.statement, copied.values)
    connected = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname", "options")
    address = " ".join(f"{name}='{connected[name]}'" for name in names if name in connected)
    with Path("/dev/null").open("wb") as nowhere:
        subprocess.run([program, "-X", "-q", "-c", statement, address], stdout=nowhere, check=True)  # noqa: S603


def _timed(work: Callable[..., Any], *arguments: Any) -> float:
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def _memory() -> float:
    """Return the memory that this process holds now, in megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
