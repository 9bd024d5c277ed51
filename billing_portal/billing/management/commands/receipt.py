"""`manage.py receipt INVOICE --out FILE`: write the receipt of an invoice, which `verify_receipt.py` verifies."""

import contextlib
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from accounts import clock
from billing_portal.billing.models import Invoice
from billing_portal.billing.receipts import packing, scopes, sealing


class Command(BaseCommand):
    help = "Write the receipt of a final invoice: all that it takes to recompute it without the portal."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("invoice", help="its number, its id at Stripe, or its id in the portal's addresses")
        parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the ZIP to write")

    def handle(self, *args: Any, **options: Any) -> None:
        invoice, now = _invoice(options["invoice"]), clock.now()
        try:
            receipt = sealing.seal(invoice, now=now)
            packing.pack(receipt, sealing.note_payment(receipt, now=now), options["out"])
        except (scopes.NothingToProve, sealing.NotFinal, packing.ContentsChanged) as error:
            raise CommandError(str(error), returncode=1) from error
        except OSError as error:
            raise CommandError(f"{options['out']} cannot be written: {error.strerror}.", returncode=2) from error
        self.stdout.write(f"{options['out']}\nusage root {receipt.usage_root}\ninvoice root {receipt.invoice_root}")


def _invoice(name: str) -> Invoice:
    named = Q(number=name) | Q(stripe_invoice_id=name)
    with contextlib.suppress(ValueError):
        named |= Q(public_id=UUID(name))
    invoice = Invoice.objects.filter(named).select_related("organization").order_by("id").first()
    if not name or invoice is None:
        raise CommandError(f"There is no invoice {name!r}.", returncode=2)
    return invoice
