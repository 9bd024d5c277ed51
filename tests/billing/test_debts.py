"""F37, F38: what went back of earlier payments is on the next month's invoice, once, by a line of its own."""

import tomllib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from accounts.models import Organization, User
from billing_portal.billing import (
    claim_sweep,
    claims,
    debts,
    gateway,
    month_end,
    purchase_payment,
    purchases,
    reconciliation,
)
from billing_portal.billing.models import Chargeback, Customer, DebtLine, Invoice, InvoiceLine, Purchase, Refund
from billing_portal.ledger import balances, settling, totals, verification
from billing_portal.ledger.models import Account, Bucket
from tests.billing.receipts.conftest import assert_all_verified, changed, content, packed, rewritten, verify
from tests.billing.test_buckets_bought import ask, offer_in_usd
from tests.billing.test_claims import payment_of, take_in_events
from tests.billing.world import CLOSING, MIDMONTH, MONTH, Buyer, invoice_of, load_prices, save_card, use
from tests.ledger.test_buckets import resolve
from tests.stripe.conftest import RunningSandbox
from tests.usage.outcomes.conftest import DOCUMENT
from usage.outcomes import rules

Used = Callable[..., Organization]
MARCH, APRIL = date(2027, 3, 1), date(2027, 4, 1)


def closing_of(month: date) -> datetime:
    following = (month + timedelta(days=32)).replace(day=1)
    return datetime(following.year, following.month, 1, 12, 10, tzinfo=UTC)


def end_month(stripe: RunningSandbox, organization: Organization, month: date) -> Invoice:
    """Let the month end, and walk its invoice."""
    now = closing_of(month)
    if stripe.now() < now:
        stripe.advance_to(now.timestamp())
    invoice = invoice_of(organization, month=month, now=now)
    assert month_end.advance(invoice, now=now), Invoice.objects.get(pk=invoice.pk).waiting_for
    return Invoice.objects.get(pk=invoice.pk)


def charge_with(organization: Organization, card: str) -> None:
    """Make Stripe charge another card from now on."""
    customer = Customer.objects.get(organization=organization).stripe_customer_id
    attached = gateway.act("payment_methods", "attach", card, {"customer": customer}, f"{customer}-{card}")
    default = {"invoice_settings": {"default_payment_method": attached["id"]}}
    gateway.update("customers", customer, default, f"{customer}-{card}-default")


def lose(invoice: Invoice) -> Chargeback:
    """Let the bank decide for the card's owner."""
    take_in_events()
    dispute = Chargeback.objects.get(invoice=invoice)
    gateway.act("disputes", "close", dispute.stripe_dispute_id, {}, f"{dispute.stripe_dispute_id}-close")
    claim_sweep.look_again(now=CLOSING)
    dispute.refresh_from_db()
    assert dispute.state == Chargeback.State.LOST
    return dispute


def owed(organization: Organization) -> int:
    return balances.balance(Account.objects.get(organization=organization), now=CLOSING).accrued_micros


def assert_sound(organization: Organization) -> None:
    for invoice in Invoice.objects.filter(organization=organization).exclude(state=Invoice.State.VOID):
        assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []
    assert list(verification.verify(organization.pk)) == []


def debt_lines(invoice: Invoice) -> list[tuple[str, int]]:
    lines = invoice.lines.filter(kind=InvoiceLine.Kind.DEBT).order_by("position")
    return list(lines.values_list("description", "amount_minor"))


def test_f37_i13_a_lost_chargeback_of_usage_is_on_the_next_invoice_once_and_paid_with_it(
    stripe: RunningSandbox, used: Used, tmp_path: Path
) -> None:
    acme = used("acme", calls=12, credit_micros=0, card="pm_card_createDispute")
    february = end_month(stripe, acme, MONTH)
    lose(february)
    assert owed(acme) == february.total_minor * 10_000
    charge_with(acme, "pm_card_visa")
    use(acme, 6, seed=2, starts_at=datetime(2027, 3, 10, 9, tzinfo=UTC))
    march = end_month(stripe, acme, MARCH)
    told = f"Owed again: the payment of invoice {february.number} went back"
    assert debt_lines(march) == [(told, february.total_minor)]
    assert (march.state, owed(acme)) == ("paid", 0)
    month_end.advance(march, now=closing_of(MARCH))
    april = end_month(stripe, acme, APRIL)
    assert (debt_lines(april), DebtLine.objects.count()) == ([], 1)
    assert_sound(acme)
    assert_all_verified(acme, tmp_path)
    # Whoever verifies March computes the debt again from what February billed and what the bank took back.
    said = verify(packed(march, tmp_path / "march.zip"))
    dispute = Chargeback.objects.get()
    assert f"of invoice {february.number}, whose payment went back: chargeback {dispute.stripe_dispute_id}" in said.text
    files = content(tmp_path / "march.zip")
    files["invoice.jsonl"] = changed(files["invoice.jsonl"], 0, _twice_as_much_went_back)
    forged = verify(rewritten(files, tmp_path / "forged.zip"))
    assert f"what is owed again of invoice {february.number} must be" in forged.text


def _twice_as_much_went_back(invoice: dict[str, Any]) -> dict[str, Any]:
    invoice["debts"][0]["total_minor"] *= 2
    invoice["debts"][0]["went_back"] *= 2
    return invoice


@pytest.mark.long
def test_f38_i13_debts_of_a_bucket_and_of_credit_are_on_one_open_invoice_and_only_the_rest_on_the_next(
    stripe: RunningSandbox, subscribed: Used, make_user: Callable[..., User], tmp_path: Path
) -> None:
    load_prices()
    rules.load(tomllib.loads(DOCUMENT.read_text()), now=MIDMONTH)
    acme = subscribed("acme", card=None)
    buyer = Buyer(acme, make_user("olivia@acme.example"), save_card(acme, "pm_card_visa", now=MIDMONTH))
    bucket = ask(buyer, offer_in_usd())
    purchase_payment.advance(bucket, now=MIDMONTH)
    credit = purchases.ask(
        organization=acme,
        user=buyer.owner,
        micros=10_000_000,
        currency="USD",
        way=Purchase.Way.CARD,
        key=purchases.next_key(acme),
        payment_method=buyer.card,
        now=MIDMONTH,
    )
    purchase_payment.advance(credit, now=MIDMONTH)
    Bucket.objects.update(starts_at=MIDMONTH.replace(year=2024))
    resolve(acme, "c_1", "c_2", "c_3", now=MIDMONTH)
    settling.settle_all(acme.pk, now=MIDMONTH)
    use(acme, 50, seed=1)
    gateway.create("refunds", {"payment_intent": payment_of(bucket.invoice)}, "the bucket's")
    gateway.create("refunds", {"payment_intent": payment_of(credit.invoice), "amount": 800}, "most of the credit's")
    take_in_events()
    units, usage = 3 * 89, totals.month(acme.pk, MONTH).accrued_micros
    assert owed(acme) == usage + units * 10_000 + 8_000_000

    charge_with(acme, "pm_card_chargeCustomerFail")
    stripe.advance_to(CLOSING.timestamp())
    february = invoice_of(acme)
    month_end.advance(february, now=CLOSING)
    february.refresh_from_db()
    assert (february.state, sorted(amount for _, amount in debt_lines(february))) == ("open", [units, 800])

    gateway.create("refunds", {"payment_intent": payment_of(credit.invoice)}, "the rest of the credit's")
    take_in_events()
    now = closing_of(MARCH)
    stripe.advance_to(now.timestamp())
    march = invoice_of(acme, month=MARCH, now=now)
    month_end.advance(march, now=now)
    march.refresh_from_db()
    assert (march.total_minor, [amount for _, amount in debt_lines(march)]) == (200, [200])
    unpaid = february.total_minor + march.total_minor
    assert abs(owed(acme) - unpaid * 10_000) < 50_000  # a rounding each line of usage
    assert {each.source_id: each.basis["billed"] for each in DebtLine.objects.all()} == {
        bucket.invoice.pk: "bucket",
        credit.invoice.pk: "credit",
    }
    assert_sound(acme)
    assert assert_all_verified(acme, tmp_path) == 2


@pytest.mark.long
def test_f38_of_a_month_without_usage_what_was_refunded_is_all_that_is_billed(
    stripe: RunningSandbox, used: Used
) -> None:
    acme = used("acme", calls=12, credit_micros=0)
    february = end_month(stripe, acme, MONTH)
    gateway.create("refunds", {"payment_intent": payment_of(february), "amount": 150}, "by hand")
    take_in_events()
    march = end_month(stripe, acme, MARCH)
    assert (march.total_minor, march.state, [amount for _, amount in debt_lines(march)]) == (150, "paid", [150])
    # Weeks later the bank cannot take the refund after all: what was billed for it comes off the next invoice.
    refund = Refund.objects.get()
    Refund.objects.update(state=Refund.State.FAILED)
    claims.follow(refund.invoice, reason="The refund failed", now=closing_of(MARCH))
    april = end_month(stripe, acme, APRIL)
    assert ([amount for _, amount in debt_lines(april)], owed(acme)) == ([-150], 0)
    assert_sound(acme)


def test_a_debt_is_written_once_and_what_is_claimed_later_waits_for_the_next_invoice(
    stripe: RunningSandbox, used: Used
) -> None:
    acme = used("acme", calls=12, credit_micros=0)
    february = end_month(stripe, acme, MONTH)
    payment = payment_of(february)
    gateway.create("refunds", {"payment_intent": payment, "amount": 100}, "first")
    take_in_events()
    stripe.advance_to(closing_of(MARCH).timestamp())
    draft = invoice_of(acme, month=MARCH, now=closing_of(MARCH))
    debts.put_on(draft, now=closing_of(MARCH))
    gateway.create("refunds", {"payment_intent": payment, "amount": 50}, "second")
    take_in_events()
    march = end_month(stripe, acme, MARCH)
    assert [amount for _, amount in debt_lines(march)] == [100]
    april = end_month(stripe, acme, APRIL)
    assert [amount for _, amount in debt_lines(april)] == [50]
    assert (owed(acme), sum(DebtLine.objects.values_list("micros", flat=True))) == (0, 1_500_000)
    with pytest.raises(DatabaseError), transaction.atomic():
        DebtLine.objects.update(micros=1)
    assert_sound(acme)
