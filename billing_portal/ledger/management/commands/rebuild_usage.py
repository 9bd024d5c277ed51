"""`manage.py rebuild_usage`: make the rollups that pages show anew from the settled calls; nothing else changes."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Organization
from billing_portal.ledger import rollup_rebuilds


class Command(BaseCommand):
    help = "Make the rollups that pages show anew from the settled calls. Settlement waits, share by share."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--organization", metavar="REF", help="only this organization")
        parser.add_argument(
            "--at-once", type=int, default=2, help="shares, each on a connection of its own (default: %(default)s)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        wanted, at_once = options["organization"], options["at_once"]
        if at_once < 1:
            raise CommandError("--at-once is 1 or more.")
        organizations = Organization.objects.filter(**({"reference": wanted} if wanted else {}))
        ids = list(organizations.order_by("pk").values_list("pk", flat=True))
        if wanted and not ids:
            raise CommandError(f"There is no organization {wanted!r}.")
        shares = rollup_rebuilds.shares(ids)
        calls, done, whole = 0, 0, sum(share.calls for share in shares)
        for share in rollup_rebuilds.rebuild_all(shares, at_once=at_once):
            calls, done = calls + share.calls, done + len(share.organization_ids)
            self.stdout.write(f"{calls:,} of {whole:,} calls, {done:,} of {len(ids):,} organizations")
        self.stdout.write("Rebuilt. `manage.py verify_usage` holds all calls against it.")
