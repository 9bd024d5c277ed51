"""What keeping rollups costs beside recording the calls, and all calls against them."""

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Max

from accounts.models import Organization
from billing_portal.local.bench import Figure, at_most, load, portal, rows
from usage import charges, ingestion, partitions, rollup_checks
from usage.models import CallRange

_FULL = 30_000_000
_BATCH = 10_000

# The month of an organization by day and model, from its calls and from the cube; the same lines either way.
_BY_MODEL = """
    SELECT {date}, r.product, sum(line.micros)::bigint FROM {table} AS u
    JOIN usage_productmix m ON m.id = u.mix_id
    CROSS JOIN LATERAL unnest(m.rate_ids, u.line_micros) AS line (rate_id, micros)
    JOIN usage_pricerate r ON r.id = line.rate_id
    WHERE u.organization_id = %(organization)s AND r.component = 'llm' AND line.micros <> 0
      AND {column} >= %(from)s AND {column} < %(to)s
    GROUP BY 1, 2 ORDER BY 1, 2"""
_RAW = _BY_MODEL.format(date="(u.started_at AT TIME ZONE 'UTC')::date", table="usage_call", column="u.started_at")
_CUBE = _BY_MODEL.format(date="u.date", table="usage_dailyusage", column="u.date")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--holding", type=int, default=1_000_000, help="calls held before (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=50_000, help="to record and settle (default: %(default)s)")
    parser.add_argument("--organizations", type=int, default=2_000)


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield PostgreSQL's CPU a call to record and to keep rollups of it, and how long all takes to compare."""
    organizations = load.organizations(options.organizations)
    partitions.ensure([load.MONTH.date()])
    if rows.hold(organizations, options.holding):
        rows.roll_up(organizations)
    for name, recorded in (("all organizations", organizations), ("one organization", organizations[:1])):
        insert = _cpu_of_recording(recorded, options.calls)
        upkeep = _cpu_of_settling(recorded)
        yield Figure(f"rollup upkeep of a call, {name}", upkeep * 1e6, "µs", limit=insert * 1e6, goal=at_most(0.7))
    started = time.perf_counter()
    differing = rollup_checks.differing()
    seconds = time.perf_counter() - started
    held = options.holding + 2 * options.calls
    yield Figure("all calls against rollups", seconds, "s", goal=at_most(10 * max(held, 1_000_000) / _FULL))
    off = sum(abs(each.micros_settled - each.micros_of_rollups) for each in differing)
    yield Figure("  difference", off + len(differing), "micros", goal=at_most(0))
    yield from _by_model(organizations[0], is_full=options.holding >= _FULL)


def _cpu_of_recording(organizations: Sequence[Organization], calls: int) -> float:
    """Return the seconds of PostgreSQL's CPU that recording a call takes, in batches of 1,000.

    They come as close together as those of a month of 30 million.
    """
    references = [organization.reference for organization in organizations]
    span = (load.ENDS_AT - load.MONTH) * calls / _FULL
    items = list(load.calls(calls, references, seed=time.time_ns(), span=span))
    before = portal.cpu_of(portal.postmaster())
    for start in range(0, calls, rows.BATCH):
        ingestion.record(items[start : start + rows.BATCH], now=load.ENDS_AT)
    return (portal.cpu_of(portal.postmaster()) - before) / calls


def _cpu_of_settling(organizations: Sequence[Organization]) -> float:
    """Return the same of numbering the calls that wait and adding them to all rollups, in batches of 10,000."""
    ids = [organization.pk for organization in organizations]
    ranges = CallRange.objects.filter(organization_id__in=ids, first_sequence__isnull=False).order_by()
    ends = ranges.values_list("organization_id").annotate(last=Max(F("first_sequence") + F("last_id") - F("first_id")))
    sequences = dict.fromkeys(ids, 0) | {organization_id: int(last) for organization_id, last in ends}
    before, settled = portal.cpu_of(portal.postmaster()), 0
    while True:
        with transaction.atomic():
            taken = charges.take(ids, _BATCH)
            if not taken:
                return (portal.cpu_of(portal.postmaster()) - before) / settled
            batches = [
                charges.Batch(organization_id, waiting, sequences[organization_id] + 1, load.MONTH.date(), "UTC")
                for organization_id, waiting in taken.items()
            ]
            charges.settle(batches)
        for batch in batches:
            sequences[batch.organization_id] += batch.calls
            settled += batch.calls


def _by_model(organization: Organization, *, is_full: bool) -> Iterator[Figure]:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE usage_pricerate, usage_productmix")  # too small for autovacuum to care
    values = {"organization": organization.pk, "from": load.MONTH, "to": load.ENDS_AT}
    raw_ms, of_calls = _timed(_RAW, values)
    of_days = {"organization": organization.pk, "from": load.MONTH.date(), "to": load.ENDS_AT.date()}
    _timed(_CUBE, of_days)
    cube_ms, of_cube = min(_timed(_CUBE, of_days) for _ in range(5))
    yield Figure("month by day and model, from calls", raw_ms, "ms")
    goal = at_most(1 / 500) if is_full else None
    yield Figure("month by day and model, from rollups", cube_ms, "ms", limit=raw_ms, goal=goal)
    yield Figure("  rows that differ", len(set(of_calls) ^ set(of_cube)), "rows", goal=at_most(0))


def _timed(query: str, values: dict[str, Any]) -> tuple[float, list[tuple[Any, ...]]]:
    started = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        found = cursor.fetchall()
    return (time.perf_counter() - started) * 1e3, found
