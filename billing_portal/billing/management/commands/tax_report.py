"""Print what a month comes to by country, region and rate, and write its documents as CSV for the filing partner."""

import csv
import sys
from argparse import ArgumentParser
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from accounts import clock
from billing_portal.billing import minor_units
from billing_portal.billing.tax import report
from usage import periods


class Command(BaseCommand):
    help = "The tax of a month by country, region and rate; exit 1 while an invoice's tax is not stored yet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--month", help="Like 2026-10; the last full one (UTC) without it.")
        parser.add_argument("--csv", help="Write every document to this file; - is the standard output.")

    def handle(self, *args: Any, month: str | None, csv: str | None, **options: Any) -> None:
        day = _month(month)
        rows = list(report.rows(day))
        if csv:
            _write(rows, csv)
        if csv != "-":
            Console(width=None if sys.stdout.isatty() else 140).print(_table(day, report.totals(rows)))
        if missing := report.unstored(day):
            raise CommandError(f"{missing} invoices of the month are not in yet. Try again in some minutes.")


def _month(text: str | None) -> date:
    if text is None:
        return periods.previous_month(periods.month_of(clock.now(), UTC))
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError as error:
        raise CommandError("Give the month like 2026-10.") from error


def _write(rows: list[report.Row], name: str) -> None:
    if name == "-":
        csv.writer(sys.stdout).writerows(report.lines(rows))
        return
    with Path(name).open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(report.lines(rows))


def _table(month: date, totals: list[report.Total]) -> Table:
    table = Table(title=f"Tax of {month:%B %Y}, by the documents' dates in UTC")
    for name in ("Country", "Region", "Tax", "Rate", "Why", "Documents"):
        table.add_column(name)
    for name in ("Net", "Tax", "Gross"):
        table.add_column(name, justify="right")
    table.add_column("Currency")
    for each in totals:
        amounts = (minor_units.plain(m, each.currency) for m in (each.net_minor, each.tax_minor, each.gross_minor))
        place = (each.country or "–", each.region or "–", each.name or "–", f"{each.percent.normalize():f} %")
        table.add_row(*place, each.reason.replace("_", " "), str(each.documents), *amounts, each.currency)
    return table
