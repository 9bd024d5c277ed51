"""All rollups from all calls anew, and that they come out as they were."""

import argparse
import time
from collections.abc import Iterator

from billing_portal.local.bench import Figure, at_most, load, rows
from usage import rollup_checks, rollup_upkeep

_FULL, _ORGANIZATIONS, _SECONDS = 30_000_000, 2_000, 150


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--holding", type=int, default=1_000_000, help="calls (default: %(default)s)")
    parser.add_argument(
        "--organizations", type=int, help="default: as many for each call as 2,000 for 30 M; cells cost more than calls"
    )


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield how long rebuilding takes, the largest organization's part of it, and what is wrong afterwards."""
    share = max(1, _ORGANIZATIONS * options.holding // _FULL)
    organizations = load.organizations(options.organizations or share)
    rows.hold(organizations, options.holding)
    started = time.perf_counter()
    rollup_upkeep.rebuild(organizations[0].pk)
    yield Figure("rebuild of the largest organization", time.perf_counter() - started, "s")
    started = time.perf_counter()
    rows.roll_up(organizations)
    seconds = time.perf_counter() - started
    goal = at_most(_SECONDS * max(options.holding, 1_000_000) / _FULL)
    yield Figure("rebuild of all rollups", seconds, "s", goal=goal)
    wrong = len(rollup_checks.differing()) + sum(len(rollup_upkeep.verify(each.pk)) for each in organizations[::100])
    yield Figure("  cells and organizations that are wrong", wrong, "", goal=at_most(0))
