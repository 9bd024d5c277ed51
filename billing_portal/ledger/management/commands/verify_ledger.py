"""`manage.py verify_ledger`: prove every cache of the ledger, exit 1 on any difference."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Organization
from billing_portal.ledger import verification


class Command(BaseCommand):
    help = "Re-derive all balances, burns and settlements; exit 1 and name each difference."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--organization", metavar="REF", help="only this organization")

    def handle(self, *args: Any, **options: Any) -> None:
        references = dict(Organization.objects.values_list("pk", "reference"))
        wanted = options["organization"]
        if wanted and wanted not in references.values():
            raise CommandError(f"There is no organization {wanted!r}.")
        differences = 0
        for organization_id in verification.organization_ids():
            if wanted in (None, references[organization_id]):
                for discrepancy in verification.verify(organization_id):
                    differences += 1
                    self.stdout.write(f"{references[organization_id]}: {discrepancy}")
        if differences:
            raise CommandError(f"{differences} differences.")
        self.stdout.write("The ledger agrees with itself.")
