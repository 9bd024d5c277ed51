"""`manage.py screenshots`: photograph the running demo."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing_portal.local import screenshots


class Command(BaseCommand):
    help = "Photograph every page of the running demo at 1360 and 400 pixels, light and dark."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--address", default="http://127.0.0.1:8000", help="default: %(default)s")
        parser.add_argument("--out", type=Path, default=Path("screenshots"), help="folder (default: %(default)s)")

    def handle(self, *args: Any, address: str, out: Path, **options: Any) -> None:
        try:
            count = screenshots.take(address.rstrip("/"), out, taken=self.stdout.write)
        except screenshots.CannotPhotograph as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{count} photographs are in {out}/.")
