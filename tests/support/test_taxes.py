"""The tax report as staff see it, and as a file."""

from accounts.models import User
from billing_portal.billing.models import Invoice
from tests.support.conftest import SETTLED


def test_the_report_shows_the_month_and_answers_it_as_csv(desk, furnished):
    Invoice.objects.update(finalized_at=SETTLED, state="paid")
    page = desk.get("/staff/taxes/?month=2026-08").content.decode()
    for text in ("Acme K.K.", "standard rated", "10 %", "JCT", "1,234"):
        assert text in page
    assert "No invoice and no credit note" in desk.get("/staff/taxes/?month=2025-01").content.decode()
    assert desk.get("/staff/taxes/?month=never").status_code == 200
    answer = desk.get("/staff/taxes/?month=2026-08&format=csv")
    lines = b"".join(answer.streaming_content).decode().splitlines()
    assert lines[0].startswith("date,document,type,invoice,customer,customer_country,customer_region,tax_id")
    assert "JCT,1122,10.0000,112,1234,JPY,standard_rated" in lines[1]
    assert len(lines) == 2


def test_whoever_may_not_see_taxes_does_not(desk, furnished):
    sam = User.objects.get(email="sam@desk.example")
    sam.is_superuser = False
    sam.save()
    assert desk.get("/staff/taxes/").status_code == 403
