"""Our own state of Stripe's invoices: any order of news, the same end."""

import itertools
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.utils import InternalError

from accounts.models import Organization
from billing_portal.billing import invoice_lines, invoices
from billing_portal.billing.models import Customer, Invoice, InvoiceLine
from billing_portal.ledger import accounts
from billing_portal.ledger.models import Entry, Transaction
from tests.billing.world import ANCHOR, MIDMONTH, MONTH, settled

DRAFT: dict[str, Any] = {
    "id": "in_1",
    "object": "invoice",
    "customer": "cus_1",
    "billing_reason": "subscription_cycle",
    "period_start": int(datetime(2027, 2, 1, 12, tzinfo=UTC).timestamp()),
    "period_end": int(ANCHOR.timestamp()),
    "created": int(ANCHOR.timestamp()),
    "currency": "usd",
    "status": "draft",
    "number": None,
    "subtotal": 0,
    "total": 0,
    "total_taxes": [],
    "amount_due": 0,
    "amount_paid": 0,
    "starting_balance": 0,
    "ending_balance": None,
    "hosted_invoice_url": None,
    "invoice_pdf": None,
    "next_payment_attempt": None,
    "status_transitions": {"finalized_at": None, "paid_at": None},
}
OPEN = DRAFT | {
    "status": "open",
    "number": "A-0001",
    "subtotal": 1000,
    "total": 1190,
    "total_taxes": [{"amount": 190}],
    "amount_due": 1190,
    "ending_balance": 0,
    "hosted_invoice_url": "https://invoice.example/1",
    "next_payment_attempt": int(ANCHOR.timestamp()) + 3600,
    "status_transitions": {"finalized_at": int(ANCHOR.timestamp()) + 60, "paid_at": None},
}
PAID = OPEN | {
    "status": "paid",
    "amount_paid": 1190,
    "next_payment_attempt": None,
    "status_transitions": {"finalized_at": int(ANCHOR.timestamp()) + 60, "paid_at": int(ANCHOR.timestamp()) + 90},
}
UNCOLLECTIBLE = OPEN | {"status": "uncollectible"}


@pytest.fixture
def customer(make_organization: Callable[..., Organization]) -> Customer:
    organization = make_organization("acme")
    accounts.open(organization=organization, now=MIDMONTH)
    return Customer.objects.create(
        organization=organization,
        stripe_customer_id="cus_1",
        stripe_subscription_id="sub_1",
        subscribed_at=MIDMONTH,
        created_at=MIDMONTH,
    )


def facts(invoice: Invoice) -> dict[str, Any]:
    return {
        f.attname: getattr(invoice, f.attname) for f in Invoice._meta.fields if f.attname not in {"id", "public_id"}
    }


def test_the_invoice_of_a_cycle_has_the_month_that_ended(customer: Customer) -> None:
    invoice = invoices.receive(DRAFT, now=ANCHOR)
    assert (invoice.month, invoice.state, invoice.currency) == (MONTH, "draft", "USD")


@pytest.mark.parametrize("reason", ["subscription_create", "manual", "subscription_update"])
def test_other_invoices_have_no_month(customer: Customer, reason: str) -> None:
    assert invoices.receive(DRAFT | {"billing_reason": reason}, now=ANCHOR).month is None


def test_an_unknown_customer_is_refused(customer: Customer) -> None:
    with pytest.raises(invoices.CustomerUnknown):
        invoices.receive(DRAFT | {"customer": "cus_else"}, now=ANCHOR)
    assert not Invoice.objects.exists()


@pytest.mark.parametrize("order", list(itertools.permutations([DRAFT, OPEN, UNCOLLECTIBLE, PAID])))
def test_f03_any_order_of_news_ends_the_same(customer: Customer, order: tuple[dict[str, Any], ...]) -> None:
    settled(customer.organization, {"llm": 9_999_999})
    for news in order:
        before = Invoice.objects.filter(stripe_invoice_id="in_1").first()
        after = invoices.receive(news, now=ANCHOR)
        if before is not None:
            assert Invoice.RANKS[before.state] <= Invoice.RANKS[after.state]
    invoice = Invoice.objects.get()
    assert (invoice.state, invoice.number, invoice.total_minor, invoice.tax_minor) == ("paid", "A-0001", 1190, 190)
    assert (invoice.amount_paid_minor, invoice.next_payment_attempt_at) == (1190, None)
    assert Transaction.objects.filter(kind="collect").count() == 1


def test_i06_the_same_news_again_changes_nothing(customer: Customer) -> None:
    settled(customer.organization, {"llm": 10_000_000})
    first = facts(invoices.receive(PAID, now=ANCHOR))
    assert facts(invoices.receive(PAID, now=ANCHOR)) == first
    assert Transaction.objects.filter(kind="collect").count() == 1


def test_i12_amounts_stand_once_final(customer: Customer) -> None:
    invoices.receive(OPEN, now=ANCHOR)
    invoices.receive(PAID | {"subtotal": 1, "total": 2, "number": "B", "amount_paid": 1190}, now=ANCHOR)
    invoice = Invoice.objects.get()
    assert (invoice.subtotal_minor, invoice.total_minor, invoice.number) == (1000, 1190, "A-0001")


def test_i17_neither_paid_nor_void_becomes_the_other(customer: Customer) -> None:
    invoices.receive(OPEN | {"status": "void"}, now=ANCHOR)
    assert invoices.receive(PAID, now=ANCHOR).state == "void"


def test_the_ledger_collects_net_of_tax_and_books_the_rounding(customer: Customer) -> None:
    settled(customer.organization, {"llm": 9_998_001})
    invoices.receive(PAID, now=ANCHOR)
    books = dict(Entry.objects.filter(transaction__kind="collect").values_list("book", "micros"))
    assert books == {"receivable": 9_998_001, "payments": -10_000_000, "rounding": 1_999}


def test_one_month_has_one_invoice(customer: Customer) -> None:
    invoices.receive(DRAFT, now=ANCHOR)
    with pytest.raises(IntegrityError), transaction.atomic():
        invoices.receive(DRAFT | {"id": "in_2"}, now=ANCHOR)


# Lines


def line(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"il_{number}",
        "amount": 100 * number,
        "currency": "usd",
        "description": f"Line {number}",
        "metadata": {},
        "quantity": number,
        "pricing": {"price_details": {"price": "price_llm", "product": "prod_1"}},
    } | fields


def test_a_line_is_usage_by_its_price(customer: Customer) -> None:
    invoice = invoices.receive(DRAFT, now=ANCHOR)
    read = invoice_lines.read(line(3), invoice, 1, {"price_llm": "llm"})
    assert (read.kind, read.component, read.quantity, read.amount_minor) == ("usage", "llm", 3, 300)


def test_a_line_is_credit_by_our_metadata(customer: Customer) -> None:
    invoice = invoices.receive(DRAFT, now=ANCHOR)
    metadata = {"grant_kind": "welcome", "component": "voice"}
    read = invoice_lines.read(line(3, amount=-5, metadata=metadata, pricing=None), invoice, 1, {"price_llm": "llm"})
    assert (read.kind, read.component, read.grant_kind, read.amount_minor) == ("credit", "voice", "welcome", -5)


@pytest.mark.parametrize("metadata", [{}, {"grant_kind": "gift", "component": "voice"}, {"grant_kind": "welcome"}])
def test_any_other_line_is_other(customer: Customer, metadata: dict[str, str]) -> None:
    invoice = invoices.receive(DRAFT, now=ANCHOR)
    read = invoice_lines.read(line(3, metadata=metadata), invoice, 1, {})
    assert (read.kind, read.component, read.grant_kind) == ("other", "", "")


def test_an_expanded_price_and_a_decimal_quantity_are_read(customer: Customer) -> None:
    invoice = invoices.receive(DRAFT, now=ANCHOR)
    pricing = {"price_details": {"price": {"id": "price_llm"}}}
    whole = line(3, quantity=None, quantity_decimal="12", pricing=pricing)
    assert invoice_lines.read(whole, invoice, 1, {"price_llm": "llm"}).quantity == 12
    assert invoice_lines.read(whole | {"quantity_decimal": "1.5"}, invoice, 1, {}).quantity is None


def test_lines_are_stored_once_and_only_when_final(customer: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [line(number) for number in range(1, 251)]
    monkeypatch.setattr(invoice_lines.gateway, "list_invoice_lines", lambda _: iter(many))
    assert invoice_lines.store(invoices.receive(DRAFT, now=ANCHOR)) == 0
    final = invoices.receive(OPEN, now=ANCHOR)
    assert [invoice_lines.store(final) for _ in range(2)] == [250, 0]
    assert list(InvoiceLine.objects.values_list("position", flat=True)) == list(range(1, 251))


@pytest.mark.parametrize("change", ["update", "delete"])
def test_i12_the_database_keeps_final_lines(customer: Customer, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    monkeypatch.setattr(invoice_lines.gateway, "list_invoice_lines", lambda _: iter([line(1)]))
    invoice_lines.store(invoices.receive(OPEN, now=ANCHOR))
    with pytest.raises((IntegrityError, InternalError)), transaction.atomic():
        if change == "update":
            InvoiceLine.objects.update(amount_minor=1)
        else:
            InvoiceLine.objects.all().delete()


def test_f45_the_month_follows_the_period_not_the_clock(customer: Customer) -> None:
    leap = int(datetime(2028, 3, 1, 12, tzinfo=UTC).timestamp())
    assert invoices.receive(DRAFT | {"period_end": leap}, now=ANCHOR).month == date(2028, 2, 1)
