"""A customer whose currency has no decimals, or three, lives a month: from signing up to a receipt that verifies."""

import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from billing_portal.billing import amounts_due, discounts, minor_units, month_end, reconciliation
from billing_portal.billing.models import Invoice
from billing_portal.ledger import settlement, verification
from billing_portal.ledger.models import Account
from billing_portal.portal import formats, onboarding
from tests.billing.receipts.conftest import assert_all_verified
from tests.billing.world import CLOSING, MIDMONTH, MONTH, invoice_of, record_calls, subscribe
from tests.stripe.conftest import RunningSandbox
from usage import prices
from usage.shares import Grouping


def load_prices(currency: str, per_dollar: str) -> None:
    """Put the list prices in force in another currency."""
    path = Path(prices.__file__).parent / "price_books" / "parley.toml"
    document = tomllib.loads(path.read_text())
    book = next(each for each in document["books"] if each["reference"] == "parley-usd")
    book |= {"reference": f"parley-{currency.lower()}", "currency": currency}
    for version in book["versions"]:
        for rate in version["rates"]:
            rate["rate"] = str(Decimal(rate["rate"]) * Decimal(per_dollar))
    prices.load({"books": [book]}, now=datetime(2024, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("currency", "per_dollar", "zone", "discount_minor"),
    [
        ("JPY", "150", "Asia/Tokyo", 100),
        pytest.param("KWD", "0.3", "Asia/Kuwait", 200, marks=pytest.mark.long),
    ],
)
def test_f42_a_month_in_a_currency_of_other_decimals(
    stripe: RunningSandbox,
    make_user: Callable[..., User],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    currency: str,
    per_dollar: str,
    zone: str,
    discount_minor: int,
) -> None:
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)
    load_prices(currency, per_dollar)
    owner = make_user("owner@tokyo.example", name="Owner")
    organization = onboarding.open_organization(
        user=owner, name="Clinic", currency=currency, time_zone=zone, now=stripe.now()
    )
    subscribe(organization, card="pm_card_visa", now=stripe.now())
    later = MIDMONTH + timedelta(hours=12)
    record_calls(organization, 40, starts_at=MIDMONTH, now=later)
    settlement.settle_all(organization.pk, now=later)
    discounts.enter(
        organization=organization,
        percent_hundredths=None,
        amount_micros=minor_units.to_micros(discount_minor, currency),
        first_month=MONTH,
        months=1,
        reason="Welcome",
        reference="d",
        now=MIDMONTH,
    )
    stripe.advance_to(CLOSING.timestamp())
    invoice = invoice_of(organization)
    assert month_end.advance(invoice, now=CLOSING), Invoice.objects.get(pk=invoice.pk).waiting_for
    invoice.refresh_from_db()
    assert (invoice.state, invoice.currency) == (Invoice.State.PAID, currency)
    assert invoice.amount_paid_minor == invoice.total_minor > 0
    assert -sum(line.amount_minor for line in invoice.lines.filter(grant_kind="discount")) == discount_minor
    assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []
    assert list(verification.verify(organization.pk)) == []
    assert abs(Account.objects.get(organization=organization).accrued_micros) < minor_units.micros_per_unit(currency)
    rows = amounts_due.compute(invoice, Grouping.DAY, now=CLOSING)
    assert sum(row.due_minor for row in rows) == invoice.total_minor
    assert assert_all_verified(organization, tmp_path) == 1
    _pages_show(organization.public_id, owner, invoice)


def _pages_show(public_id: object, owner: User, invoice: Invoice) -> None:
    """The invoice's total stands on its page and in the list, in the currency's own decimals."""
    client = Client()
    client.force_login(owner)
    total = formats.money(minor_units.to_micros(invoice.total_minor, invoice.currency), invoice.currency)
    decimals = total.rpartition(".")[2] if "." in total else ""
    assert len(decimals) == minor_units.exponent(invoice.currency)
    for page in (reverse("invoice", args=[public_id, invoice.public_id]), reverse("invoices", args=[public_id])):
        assert total in client.get(page).content.decode()
