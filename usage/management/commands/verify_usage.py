"""Prove that the calls of all organizations add up to what is settled, and that to the rollups that pages show."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from usage import rollup_checks, rollup_upkeep


class Command(BaseCommand):
    """Print what does not agree, cell by cell; exit 1 if anything does not."""

    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        differing = rollup_checks.differing()
        for each in differing:
            self.stdout.write(str(each))
            for cell in rollup_upkeep.verify(each.organization_id):
                self.stdout.write(f"  {cell}")
        if differing:
            raise CommandError(f"{len(differing)} organizations do not agree.")
        self.stdout.write("All calls, ranges and rollups agree.")
