"""Buying credit by card: the credit is there exactly when Stripe has the money, whatever comes in which order."""

import itertools
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction

from accounts.models import Organization
from billing_portal.billing import (
    customers,
    gateway,
    inbox,
    invoices,
    month_end,
    purchase_payment,
    purchases,
    reconciliation,
)
from billing_portal.billing.models import InboxEvent, Intent, Invoice, InvoiceLine, Purchase, PurchaseStep
from billing_portal.ledger import verification
from billing_portal.ledger.models import Grant
from tests.billing.world import CLOSING, MIDMONTH, MONTH, Buyer, invoice_of, save_card
from tests.stripe.conftest import RunningSandbox

MakeBuyer = Callable[..., Buyer]
FIFTY = 50_000_000


def ask(acme: Buyer, **changes: Any) -> Purchase:
    arguments: dict[str, Any] = {
        "organization": acme.organization,
        "user": acme.owner,
        "micros": FIFTY,
        "currency": "USD",
        "way": Purchase.Way.CARD,
        "key": purchases.next_key(acme.organization),
        "payment_method": acme.card,
        "now": MIDMONTH,
    }
    return purchases.ask(**arguments | changes)


def buy(acme: Buyer, **changes: Any) -> Purchase:
    purchase = ask(acme, **changes)
    purchase_payment.advance(purchase, now=MIDMONTH)
    return purchase


def charges(stripe: RunningSandbox) -> list[dict[str, Any]]:
    return [each for each in stripe.dump()["objects"].get("charge", []) if each["paid"]]


def assert_sound(acme: Buyer, stripe: RunningSandbox) -> None:
    """I13: each succeeded charge is one credit of its amount, and the books are in order."""
    credited = Purchase.objects.filter(state="credited").count()
    assert Grant.objects.filter(kind="prepaid").count() == credited == len(charges(stripe))
    assert list(verification.verify(acme.organization.pk)) == []
    for invoice in Invoice.objects.filter(month=None).exclude(state="void"):
        assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []


def handle_events(now: Any = MIDMONTH) -> None:
    """Deliver all of Stripe's events and handle them; none may fail."""
    inbox.catch_up(now + timedelta(hours=1))
    inbox.handle_waiting(now=now + timedelta(hours=1))
    failed = InboxEvent.objects.exclude(reason="").values_list("type", "reason")
    assert not failed, list(failed)


def states(purchase: Purchase) -> list[str]:
    return list(purchase.steps.order_by("id").values_list("state", flat=True))


# ── It works ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_credit_bought_by_card_is_invoiced_charged_and_given(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    purchase = buy(acme)
    assert (purchase.state, purchase.due_at) == ("credited", None)
    assert states(purchase) == ["asked", "paying", "paid", "credited"]
    assert acme.credit_micros == FIFTY
    invoice = Invoice.objects.get()
    assert (invoice.state, invoice.month, invoice.total_minor, invoice.amount_paid_minor) == ("paid", None, 5000, 5000)
    assert purchase.invoice == invoice
    assert InvoiceLine.objects.get().description == "Prepaid credit"
    assert purchase.grant is not None
    assert purchase.grant.reason == f"invoice {invoice.number}"
    assert charges(stripe)[0]["amount"] == 5000
    assert_sound(acme, stripe)


def test_i06_walking_again_changes_nothing(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    purchase = buy(acme)
    before = stripe.dump()["objects"]
    assert purchase_payment.advance(purchase, now=MIDMONTH + timedelta(hours=1))
    assert purchase_payment.advance_waiting(now=MIDMONTH + timedelta(days=1)) == 0
    assert stripe.dump()["objects"] == before
    assert_sound(acme, stripe)


# ── Asking ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("micros", [-FIFTY, 0, 1, 9_999_999, 10_000_000_001, 50_005_000, 10**30])
def test_an_amount_out_of_bounds_or_of_part_cents_is_refused(
    db: None, acme: Organization, alice: Any, micros: int
) -> None:
    buyer = Buyer(acme, alice, None)
    with pytest.raises(purchases.AmountRefused):
        ask(buyer, micros=micros)
    assert not Purchase.objects.exists()


@pytest.mark.parametrize(("currency", "micros"), [("JPY", 2_000_500_000), ("USD", 50_000_001)])
def test_f42_amounts_are_whole_minor_units(currency: str, micros: int) -> None:
    with pytest.raises(purchases.AmountRefused):
        purchases.check_amount(micros, currency)


def test_f41_another_currency_is_refused(db: None, acme: Organization, alice: Any) -> None:
    with pytest.raises(purchases.CurrencyMismatch):
        ask(Buyer(acme, alice, None), currency="EUR")
    acme.currency = "BTN"
    with pytest.raises(purchases.CurrencyNotSold):
        ask(Buyer(acme, alice, None), currency="BTN")
    assert not Purchase.objects.exists()


def test_f44_a_card_that_is_no_more_the_default_is_not_charged(buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    save_card(acme.organization, "pm_card_mastercard", now=MIDMONTH)
    with pytest.raises(purchases.CardNeeded):
        ask(acme)
    with pytest.raises(purchases.CardNeeded):
        ask(acme, payment_method=None)
    assert not Purchase.objects.exists()


def test_f27_f28_a_form_sent_again_buys_once(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    key = purchases.next_key(acme.organization)
    first = ask(acme, key=key)
    assert ask(acme, key=key) == first
    purchase_payment.advance(first, now=MIDMONTH)
    assert buy(acme, key=key) == first
    with pytest.raises(purchases.KeyReused) as reused:
        ask(acme, micros=2 * FIFTY, key=key)
    assert reused.value.purchase == first
    assert_sound(acme, stripe)


def test_f27_eight_at_once_make_one_charge(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    key = purchases.next_key(acme.organization)

    def submit(_: int) -> int:
        try:
            return buy(acme, key=key).pk
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(submit, range(8)))) == 1
    purchase_payment.advance_waiting(now=MIDMONTH + timedelta(minutes=5))
    assert Purchase.objects.get().state == "credited"
    assert_sound(acme, stripe)


def test_f29_forms_shown_before_a_purchase_share_its_key(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    here, there = (purchases.next_key(acme.organization) for _ in range(2))
    assert buy(acme, key=here) == buy(acme, key=there)
    assert purchases.next_key(acme.organization) not in {here, there}
    assert_sound(acme, stripe)


def test_a_key_that_was_not_minted_for_it_buys_nothing(buyer: MakeBuyer) -> None:
    acme, other = buyer("acme"), buyer("other")
    foreign = ask(other)
    for key in (uuid.UUID(int=7), foreign.public_id):
        with pytest.raises(purchases.FormOutdated):
            ask(acme, key=key)
    assert Purchase.objects.get() == foreign


def test_one_purchase_is_under_way_at_a_time(buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    first = ask(acme)
    with pytest.raises(purchases.PurchaseOpen) as under_way:
        ask(acme)
    assert under_way.value.purchase == first
    with pytest.raises(IntegrityError), transaction.atomic():
        Purchase.objects.create(
            organization=acme.organization, origin="person", way="card", currency="USD", amount_micros=1,
            asked_by=acme.owner, asked_at=MIDMONTH,
        )  # fmt: skip


def test_the_history_cannot_be_rewritten(buyer: MakeBuyer) -> None:
    ask(buyer("acme"))
    with pytest.raises(ProgrammingError), transaction.atomic():
        PurchaseStep.objects.update(note="never")
    with pytest.raises(ProgrammingError), transaction.atomic():
        PurchaseStep.objects.all().delete()


# ── Any order of news ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_f30_the_webhook_may_come_before_our_own_answer(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    stripe.faults(fail_next={"when": "after", "status": 500, "path": "/pay"})
    purchase = buy(acme)
    assert (purchase.state, acme.credit_micros) == ("paying", 0)
    handle_events()
    purchase.refresh_from_db()
    assert (purchase.state, acme.credit_micros) == ("credited", FIFTY)
    assert purchase_payment.advance(purchase, now=MIDMONTH + timedelta(hours=1))
    assert_sound(acme, stripe)


def test_f31_f04_without_any_webhook_the_sweep_gives_the_credit(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    ask(acme)
    assert acme.credit_micros == 0
    assert purchase_payment.advance_waiting(now=MIDMONTH) == 1
    assert acme.credit_micros == FIFTY
    assert_sound(acme, stripe)


def test_f01_f02_events_again_and_again_are_one_credit(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    buy(acme)
    handle_events()
    for _ in range(3):
        for event in InboxEvent.objects.all():
            inbox.replay(event)
        handle_events()
    assert_sound(acme, stripe)


@pytest.mark.parametrize("order", list(itertools.permutations(["draft", "open", "paid"])))
def test_f03_news_of_the_invoice_in_any_order_end_the_same(
    stripe: RunningSandbox, buyer: MakeBuyer, monkeypatch: pytest.MonkeyPatch, order: tuple[str, ...]
) -> None:
    acme = buyer("acme")
    seen: dict[str, gateway.Object] = {}
    retrieve = gateway.retrieve

    def keep(kind: gateway.Kind, stripe_id: str, **more: Any) -> gateway.Object:
        found = retrieve(kind, stripe_id, **more)
        if kind == "invoices":
            seen.setdefault(found["status"], found)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(gateway, "retrieve", keep)
        buy(acme)
    purchase = ask(acme)
    for status in order:
        news = seen[status] | {"id": "in_2", "metadata": {"purchase": str(purchase.public_id)}}
        invoice = invoices.receive(news, now=MIDMONTH)
        assert purchases.receive(invoice, news, now=MIDMONTH) == purchase
    purchase.refresh_from_db()
    assert (purchase.state, acme.credit_micros) == ("credited", 2 * FIFTY)


@pytest.mark.parametrize("path", ["/v1/invoices", "/v1/invoiceitems", "/finalize", "/pay"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_f17_f18_an_unanswered_write_is_repeated_with_its_key(
    stripe: RunningSandbox, buyer: MakeBuyer, path: str, when: str
) -> None:
    acme = buyer("acme")
    stripe.faults(fail_next={"when": when, "status": 500, "path": path, "method": "POST"})
    purchase = buy(acme)
    assert purchase.state == "paying"
    assert purchase_payment.advance_waiting(now=MIDMONTH) == 0  # not before it is due
    assert purchase_payment.advance_waiting(now=MIDMONTH + timedelta(minutes=1)) == 1
    assert_sound(acme, stripe)


def test_f19_a_stored_failure_is_looked_up(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    stripe.faults(fail_next={"when": "after", "status": 500, "path": "/pay", "stored": True})
    buy(acme)
    assert purchase_payment.advance_waiting(now=MIDMONTH + timedelta(minutes=1)) == 1
    assert_sound(acme, stripe)


def test_f17_a_day_later_the_effect_is_looked_up(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    stripe.faults(fail_next={"when": "after", "status": 500, "path": "/v1/invoices", "method": "POST"})
    buy(acme)
    Intent.objects.filter(verb="draft purchase").update(idempotency_key="forgotten")
    assert purchase_payment.advance_waiting(now=MIDMONTH + timedelta(days=1)) == 1
    assert len(stripe.dump()["objects"]["invoice"]) == 1
    assert_sound(acme, stripe)


# ── Not paid ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_f35_a_declined_card_buys_nothing_and_leaves_nothing_open(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    stripe.faults(decline_next={"code": "insufficient_funds"})
    purchase = buy(acme)
    assert (purchase.state, purchase.failure) == ("failed", "Your card has insufficient funds.")
    assert (Invoice.objects.get().state, acme.credit_micros) == ("void", 0)
    handle_events()
    again = buy(acme)
    assert again.state == "credited"
    assert_sound(acme, stripe)


def test_f34_the_banks_question_waits_with_a_link_until_it_is_answered(
    stripe: RunningSandbox, buyer: MakeBuyer
) -> None:
    acme = buyer("acme", card="pm_card_authenticationRequired")
    purchase = buy(acme)
    assert (purchase.state, acme.credit_micros) == ("needs_action", 0)
    assert purchase.invoice is not None
    assert purchase.invoice.hosted_invoice_url
    for minutes in range(0, 60, 5):
        purchase_payment.advance_waiting(now=MIDMONTH + timedelta(minutes=minutes))
    assert Intent.objects.filter(verb="pay purchase").count() == 1
    intent = stripe.dump()["objects"]["payment_intent"][0]
    stripe.control.post("/_sandbox/authenticate", json={"intent": intent["id"]}).raise_for_status()
    handle_events()
    purchase.refresh_from_db()
    assert purchase.state == "credited"
    assert states(purchase) == ["asked", "paying", "needs_action", "paid", "credited"]
    assert_sound(acme, stripe)


def test_f32_a_question_nobody_answers_expires(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme", card="pm_card_authenticationRequired")
    purchase = buy(acme)
    assert purchase_payment.advance_waiting(now=MIDMONTH + timedelta(hours=25)) == 1
    purchase.refresh_from_db()
    assert (purchase.state, Invoice.objects.get().state, acme.credit_micros) == ("canceled", "void", 0)
    handle_events()
    assert_sound(acme, stripe)
    assert ask(acme).pk != purchase.pk, "it keeps nobody from buying again"


def test_given_up_before_anything_was_sent_ends_without_stripe(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    purchase = ask(acme)
    purchases.give_up(purchase, now=MIDMONTH)
    assert purchase_payment.advance(purchase, now=MIDMONTH)
    assert (purchase.state, Intent.objects.filter(verb="draft purchase").count()) == ("canceled", 0)


@pytest.mark.parametrize("path", ["/v1/invoices", "/v1/invoiceitems", "/finalize"])
def test_given_up_on_the_way_is_closed_at_stripe(stripe: RunningSandbox, buyer: MakeBuyer, path: str) -> None:
    acme = buyer("acme")
    stripe.faults(fail_next={"when": "after", "status": 500, "path": path, "method": "POST"})
    purchase = buy(acme)
    purchases.give_up(purchase, now=MIDMONTH)
    assert purchase_payment.advance(purchase, now=MIDMONTH)
    assert purchase.state == "canceled"
    assert not [each for each in gateway.list_all("invoices") if each["status"] in {"draft", "open"}]
    handle_events()
    assert_sound(acme, stripe)


def test_money_that_came_in_after_all_is_credited(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    stripe.faults(fail_next={"when": "after", "status": 500, "path": "/pay"})
    purchase = buy(acme)
    purchases.give_up(purchase, now=MIDMONTH, failure="Nobody knows.")
    assert purchase_payment.advance(purchase, now=MIDMONTH)
    assert (purchase.state, purchase.failure) == ("credited", "")
    assert_sound(acme, stripe)


def test_a_payment_of_another_amount_gives_nothing_and_waits_for_a_person(
    stripe: RunningSandbox, buyer: MakeBuyer
) -> None:
    acme = buyer("acme")
    stripe.faults(fail_next={"when": "before", "status": 500, "path": "/pay"})
    purchase = buy(acme)
    Purchase.objects.filter(pk=purchase.pk).update(amount_micros=2 * FIFTY)
    assert purchase_payment.advance_waiting(now=MIDMONTH + timedelta(minutes=1)) == 0
    purchase.refresh_from_db()
    assert (purchase.state, acme.credit_micros) == ("paying", 0)
    assert purchase.due_at == MIDMONTH + timedelta(minutes=61)
    result = reconciliation.reconcile_invoice(Invoice.objects.get(), deep=False)
    assert {each.level for each in result.differences} == {"line amount", "payment"}


def test_f40_a_customer_deleted_at_stripe_ends_it(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    purchase = ask(acme)
    stripe.client.v1.customers.delete(acme.organization.customer.stripe_customer_id)
    assert purchase_payment.advance(purchase, now=MIDMONTH)
    assert purchase.state == "failed"
    assert_sound(acme, stripe)


# ── Tax, and the months around it ─────────────────────────────────────────────────────────────────────────────────────


def tax(acme: Buyer) -> None:
    """Let Stripe work out tax for the customer."""
    customer = customers.subscribe(acme.organization, now=MIDMONTH)
    stripe_id = customer.stripe_subscription_id or ""
    gateway.update("subscriptions", stripe_id, {"automatic_tax": {"enabled": True}}, "tax")
    acme.organization.refresh_from_db()


def test_credit_is_taxed_when_bought_and_given_net(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    address = {"country": "DE", "line1": "Straße 1", "postal_code": "10115", "city": "Berlin"}
    stripe_id = acme.organization.customer.stripe_customer_id
    gateway.update("customers", stripe_id, {"address": address}, "address")
    tax(acme)
    assert buy(acme).state == "credited"
    invoice = Invoice.objects.get()
    assert (invoice.subtotal_minor, invoice.tax_minor, invoice.amount_paid_minor) == (5000, 950, 5950)
    assert acme.credit_micros == FIFTY
    assert_sound(acme, stripe)


def test_without_an_address_tax_stops_it_before_any_charge(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    tax(acme)
    purchase = buy(acme)
    assert purchase.state == "failed"
    assert "customer address" in purchase.failure
    assert list(gateway.list_all("invoices")) == []
    handle_events()
    assert_sound(acme, stripe)


def test_the_months_invoice_is_none_the_wiser(
    stripe: RunningSandbox, used: Callable[..., Organization], make_user: Callable[..., Any]
) -> None:
    acme = used("acme", calls=20, credit_micros=500_000)
    owner = make_user("owner@acme.example")
    buyer = Buyer(acme, owner, save_card(acme, "pm_card_visa", now=CLOSING))
    purchase = ask(buyer, now=CLOSING)
    purchase_payment.advance(purchase, now=CLOSING)
    month_end.advance_waiting(now=CLOSING)
    invoice = invoice_of(acme)
    invoice.refresh_from_db()
    assert (invoice.state, invoice.month) == ("paid", MONTH)
    for each in Invoice.objects.all():
        assert reconciliation.reconcile_invoice(each, deep=True).differences == []
    assert Invoice.objects.count() == 2
    assert InvoiceLine.objects.filter(invoice__purchase=purchase).count() == 1
    assert Grant.objects.get(kind="prepaid").remaining_micros == FIFTY
