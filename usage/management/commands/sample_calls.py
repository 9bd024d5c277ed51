"""Write a plausible company's calls to a file."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from usage import periods, samples


class Command(BaseCommand):
    help = "Write sample calls as JSON lines, the same for the same seed: what `manage.py import_calls` reads."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--first-month", type=_month, default="2026-08", metavar="YYYY-MM")
        parser.add_argument("--months", type=int, default=3)
        parser.add_argument("--calls", type=int, default=200_000)
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--organizations", type=int, default=30)
        parser.add_argument(
            "--arrivals",
            type=Path,
            default=os.environ.get("ARRIVALS_FILE"),
            metavar="FILE",
            help="real arrival counts (interval_start, calls) for the first month, instead of the sample's rhythm",
        )
        parser.add_argument("--arrivals-month", type=_month, metavar="YYYY-MM", help="the month of that file to take")
        parser.add_argument("--out", type=Path, metavar="FILE", help="instead of standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        out: Path | None = options["out"]
        calls = _calls(options)
        with out.open("w") if out else nullcontext(sys.stdout) as file:
            for call in calls:
                file.write(json.dumps(call, separators=(",", ":")) + "\n")


def _calls(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    seed = options["seed"]
    customers = samples.organizations(seed=seed, count=options["organizations"])
    months = [options["first_month"]]
    if options["arrivals"]:
        if not options["arrivals_month"]:
            raise CommandError("Say which month of the arrivals file to take: --arrivals-month 2003-04.")
        if not Path(options["arrivals"]).exists():
            raise CommandError(f"{options['arrivals']} does not exist.")
        arrivals = samples.read_arrivals(Path(options["arrivals"]), source=options["arrivals_month"], target=months[0])
        return samples.calls_of_arrivals(arrivals, seed=seed, customers=customers)
    while len(months) < options["months"]:
        months.append(periods.next_month(months[-1]))
    return samples.calls(months=months, count=options["calls"], seed=seed, customers=customers)


def _month(text: str) -> date:
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a month like 2026-10.") from error
