from pathlib import Path

import pytest

from billing_portal.billing import gateway, month_end
from tests.billing.receipts.conftest import packed, verify
from tests.billing.world import CLOSING, invoice_of

pytestmark = pytest.mark.django_db(transaction=True)


def test_i18_a_month_is_verified_from_its_receipt_alone(used, tmp_path: Path) -> None:
    organization = used("acme", calls=60, credit_micros=1_000_000)
    invoice = invoice_of(organization)
    assert month_end.advance(invoice, now=CLOSING)
    verdict = verify(packed(invoice, tmp_path / "receipt.zip"))
    assert verdict.verified, verdict.text
    stripe_invoice = gateway.retrieve("invoices", invoice.stripe_invoice_id)
    assert stripe_invoice["metadata"]["receipt_root"] == invoice.receipt.usage_root
    assert invoice.receipt.usage_root in stripe_invoice["footer"]
