"""What this machine's PostgreSQL can do at all: the yardstick of the other subjects."""

import argparse
from collections.abc import Iterator

from billing_portal.local import pgbench
from billing_portal.local.bench import Figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement (default: %(default)s)")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield pgbench's simple-update with eight writers, and with one, which shows what a commit costs."""
    for writers in (8, 1):
        rate = pgbench.simple_updates_a_second(writers=writers, seconds=options.seconds)
        yield Figure(f"pgbench simple-update, {writers} connection{'s' * (writers > 1)}", rate, "tx/s")
