"""What a call takes on disk: its row, its key, its share of a range, and their indexes."""

import argparse
import time
from collections.abc import Iterator

from django.db import connection

from billing_portal.local.bench import Figure, at_most, load, rows
from usage import partitions

_SIZES = """
    SELECT coalesce(sum(pg_table_size(relid)), 0), coalesce(sum(pg_indexes_size(relid)), 0)
    FROM (SELECT relid FROM pg_partition_tree(%s::regclass) UNION SELECT %s::regclass) AS parts"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=3_000_000, help="of one month (default: %(default)s)")
    parser.add_argument("--organizations", type=int, default=2_000)
    parser.add_argument("--detailed", type=int, default=10, help="of 100, with numbers and metadata (default: 10)")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield bytes a call of each table, settled, as they were written and once the month's index is compacted."""
    organizations = load.organizations(options.organizations)
    rows.hold(organizations, options.calls, detailed=options.detailed)
    calls = options.calls
    total = 0.0
    for name, table in (("its row", "usage_call"), ("its key", "usage_callkey")):
        heap, indexes = _bytes(table)
        total += (heap + indexes) / calls
        yield Figure(f"  {name}", heap / calls, "B")
        yield Figure(f"  index of {name}", indexes / calls, "B")
    yield Figure("one call with its key", total, "B", goal=at_most(340))
    before = _bytes("usage_call")[1]
    started = time.perf_counter()
    compacted = partitions.compact(load.ENDS_AT + partitions.QUIET)
    seconds = time.perf_counter() - started
    saved = (before - _bytes("usage_call")[1]) / calls
    yield Figure("one call with its key, when its month is over", total - saved, "B", goal=at_most(340))
    yield Figure(f"  compacting {len(compacted)} indexes", seconds, "s")
    yield Figure("its share of a range", sum(_bytes("usage_callrange")) / calls, "B")
    detailed = max(1, calls * options.detailed // 100)
    yield Figure("numbers and metadata, of a call that has any", sum(_bytes("usage_calldetail")) / detailed, "B")


def _bytes(table: str) -> tuple[float, float]:
    """Return the bytes of a table and of its indexes, all partitions together."""
    with connection.cursor() as cursor:
        cursor.execute(_SIZES, [table, table])
        heap, indexes = cursor.fetchone()
        return float(heap), float(indexes)
