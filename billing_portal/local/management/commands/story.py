"""`manage.py story`: what `manage.py demo` runs once its servers stand."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from accounts.models import Organization
from billing_portal.local import company, ending, shopping, story
from usage import periods


class Command(BaseCommand):
    help = "Tell the demo's story against the running portal and sandbox; exit 1 unless it ends without difference."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--first-month", type=_month, required=True, metavar="YYYY-MM")
        parser.add_argument("--months", type=int, default=3)
        parser.add_argument("--calls", type=int, default=200_000)
        parser.add_argument("--organizations", type=int, default=30)
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--arrivals", type=Path)
        parser.add_argument("--arrivals-month", type=_month, metavar="YYYY-MM")
        parser.add_argument("--once", action="store_true", help="do nothing but set the clock if it was told before")

    def handle(self, *args: Any, **options: Any) -> None:
        self.console = Console() if sys.stdout.isatty() else Console(width=132)
        started = time.monotonic()
        if options["once"]:
            call_command("migrate", verbosity=0)
        story.follow_sandbox()
        if options["once"] and company.is_seeded():
            call_command("log_ins", address=settings.BASE_URL)
            return
        plan = _plan(options)
        company.seed_prices()
        company.seed_staff()
        story.vendor_key()
        self._sign_up(plan)
        self._pay_ahead(plan)
        for month in plan.months:
            self._live_through(plan, month)
        self._show(plan, seconds=time.monotonic() - started)
        if options["once"]:
            self._bring_to_today(plan)
            company.mark_seeded()
            call_command("log_ins", address=settings.BASE_URL)

    def _sign_up(self, plan: story.Plan) -> None:
        with self._progress("Customers sign up and save a card", len(plan.customers)) as advance:
            for sample in plan.customers:
                story.sign_up(sample, is_known=plan.is_known(sample))
                advance(1)

    def _pay_ahead(self, plan: story.Plan) -> None:
        with self._progress("Credit and a bucket are bought ahead", 2) as advance:
            try:
                shopping.pay_ahead(plan.customers)
            except shopping.NotCredited as missing:
                raise CommandError(f"What was bought was not credited. {missing}") from missing
            advance(2)

    def _live_through(self, plan: story.Plan, month: date) -> None:
        """Record the month's calls through the API, then let the month end."""
        following = periods.next_month(month)
        # The last calls of a month end in the next: let them, well before it is billed at noon.
        story.advance_to(datetime(following.year, following.month, 1, 2, tzinfo=UTC))
        with self._progress(f"{month:%B %Y}: calls arrive through the API", None) as advance:
            story.post_calls(plan.month_of_calls(month), advance=advance)
        story.post_conversations(plan.month_of_conversations(month))
        story.kill_worker_if_asked()
        with self._progress(f"{month:%B %Y}: invoices are paid", len(plan.customers)) as advance:
            paid = 0

            def report(done: int, expected: int) -> None:
                nonlocal paid
                advance(done - paid)
                paid = done

            try:
                story.settle_month()
                story.close_month(month, advance=report)
            except story.Stalled as stalled:
                raise CommandError(f"The month end of {month:%B %Y} stalled. {stalled}") from stalled

    def _bring_to_today(self, plan: story.Plan) -> None:
        """Let the clock reach the present, with the calls of the running month so far."""
        company.live_until_today(plan)
        company.make_gestures(plan)

    def _show(self, plan: story.Plan, *, seconds: float) -> None:
        rows = ending.rows(Organization.objects.order_by("id"))
        self.console.print(_table(rows))
        total = ending.total(rows)
        rate = total.calls / seconds if seconds else 0
        self.console.print(f"{total.calls:,} calls in {seconds:,.0f} s, from sign-up to paid ({rate:,.0f} a second).")
        interims = sum(row.interims for row in rows)
        self.console.print(f"{interims} interim invoices were charged before their month's end, near what may be owed.")
        self.console.print(shopping.summary())
        for row in rows:
            for difference in row.differences:
                self.console.print(f"[red]{row.name}: {difference}")
        if total.difference_micros or total.differences or any(row.unpaid for row in rows):
            raise CommandError("The story did not end paid and without difference.")

    @contextmanager
    def _progress(self, label: str, total: int | None) -> Iterator[Any]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(label, total=total)
            yield lambda count: progress.advance(task, count)


def _table(rows: list[ending.Row]) -> Table:
    table = Table(title="Every organization, from the first call to the last payment")
    for heading in (
        "Organization",
        "Calls",
        "Outcomes",
        "Gross usage",
        "Credit burnt",
        "Stripe total",
        "Paid",
        "Difference",
    ):
        table.add_column(heading, justify="left" if heading == "Organization" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row.cells())
    table.add_section()
    table.add_row(*ending.total(rows).cells(), style="bold")
    return table


def _plan(options: dict[str, Any]) -> story.Plan:
    months = [options["first_month"]]
    while len(months) < options["months"]:
        months.append(periods.next_month(months[-1]))
    return story.Plan(
        months=months,
        calls=options["calls"],
        organizations=options["organizations"],
        seed=options["seed"],
        arrivals=options["arrivals"],
        arrivals_month=options["arrivals_month"],
    )


def _month(text: str) -> date:
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a month like 2026-10.") from error
