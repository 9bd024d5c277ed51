"""`manage.py advance_clock`: let time pass in the demo, for the portal and the sandbox alike."""

import argparse
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing_portal.local import sandbox_client, story


class Command(BaseCommand):
    help = "Move the clocks of the portal and the sandbox forward; all that falls due happens."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("to", type=_instant, help="an instant like 2026-12-01T12:05 (UTC), or `month-end`")

    def handle(self, *args: Any, **options: Any) -> None:
        now = sandbox_client.now()
        target = options["to"] or _after_month_end(now)
        if target < now:
            raise CommandError(f"Clocks only go forward; it is {now:%Y-%m-%d %H:%M} UTC already.")
        story.advance_to(target)
        self.stdout.write(f"It is now {target:%Y-%m-%d %H:%M} UTC.")


def _after_month_end(now: datetime) -> datetime:
    """Return the instant at which the running month's invoices have just been drafted."""
    following = (now.replace(day=1) + timedelta(days=32)).replace(day=1)
    return following.replace(hour=12, minute=5, second=0, microsecond=0)


def _instant(text: str) -> datetime | None:
    if text == "month-end":
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an instant like 2026-12-01T12:05.") from error
