"""Load bucket offers from a file."""

import json
import tomllib
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import clock
from billing_portal.billing import bucket_offers
from usage.price_documents import PriceDocumentInvalid


class Command(BaseCommand):
    help = "Load bucket offers from a TOML or JSON file. The same file again changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            document = json.loads(file.read_text()) if file.suffix == ".json" else tomllib.loads(file.read_text())
            changed = bucket_offers.load(document, now=clock.now())
        except (OSError, ValueError) as error:
            raise CommandError(f"{file} cannot be read: {error}") from error
        except (PriceDocumentInvalid, bucket_offers.OfferWasBought) as error:
            raise CommandError(f"{file}: {error}") from error
        for offer in changed:
            self.stdout.write(f"Loaded {offer}.")
        if not changed:
            self.stdout.write("Nothing changed.")
