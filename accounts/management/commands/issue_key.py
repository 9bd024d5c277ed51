"""`manage.py issue_key`: make an API key and print its secret, once."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import api_keys, clock
from accounts.models import ApiKey, Organization


class Command(BaseCommand):
    help = "Make an API key and print its secret. Without --organization it is the vendor's."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what the key is for")
        parser.add_argument("--organization", metavar="REF", help="whose key it is")
        parser.add_argument(
            "--scope", dest="scopes", action="append", choices=ApiKey.Scope.values, required=True, help="repeatable"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        organization = None
        if reference := options["organization"]:
            organization = Organization.objects.filter(reference=reference).first()
            if organization is None:
                raise CommandError(f"There is no organization {reference!r}.")
        try:
            _, secret = api_keys.issue(
                organization=organization, name=options["name"], scopes=options["scopes"], now=clock.now()
            )
        except api_keys.ScopeNotAllowed as error:
            raise CommandError(str(error)) from error
        self.stdout.write(secret)
