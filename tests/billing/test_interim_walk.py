"""Interim invoices at Stripe: charged before the limit, taken off the month's invoice, whatever goes wrong between."""

import itertools
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection

from accounts.models import Organization
from billing_portal.billing import (
    charging,
    gateway,
    inbox,
    interim_walk,
    interims,
    invoices,
    minor_units,
    month_end,
    reconciliation,
)
from billing_portal.billing.models import Customer, InboxEvent, InterimInvoice, Invoice, InvoiceLine
from billing_portal.ledger import authorization, balances, credits, settlement, totals, verification
from billing_portal.ledger.models import Account, Entry, Grant, Transaction
from tests.billing.receipts.conftest import assert_all_verified
from tests.billing.world import CLOSING, MIDMONTH, MONTH, invoice_of, record_calls, use
from tests.conftest import only_long
from tests.stripe.conftest import RunningSandbox

Maker = Callable[..., Organization]
State = InterimInvoice.State
LATER = MIDMONTH + timedelta(hours=12)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is queued: only what a test calls happens, as if the broker were away (F20)."""
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)


@pytest.fixture
def near(limited: Maker, unhurried: None) -> Maker:
    """Return a maker of customers that owe about their limit of five dollars, with nothing invoiced yet."""

    def make(reference: str = "acme", **fields: object) -> Organization:
        organization = limited(reference, **fields)
        assert use(organization, 12, seed=1) >= 4_000_000
        return organization

    return make


def owed(organization: Organization) -> int:
    return balances.balance(Account.objects.get(organization=organization), now=LATER).accrued_micros


def may_spend(organization: Organization) -> authorization.Authorization:
    return authorization.authorize(organization.pk, now=LATER)


def own_rounding(organization: Organization) -> int:
    """What the month comes to in minor units, by the ledger alone: each component's gross and credit, rounded once."""
    month, total = totals.month(organization.pk, MONTH), 0
    for component, gross in month.gross.items():
        burnt = sum(micros for (_, each), micros in month.burnt.items() if each == component)
        total += minor_units.from_micros(gross, "USD") - minor_units.from_micros(burnt, "USD")
    return total


def end_month(stripe: RunningSandbox, organization: Organization) -> Invoice:
    if stripe.now() < CLOSING:
        stripe.advance_to(CLOSING.timestamp())
    invoice = invoice_of(organization)
    assert month_end.advance(invoice, now=CLOSING), Invoice.objects.get(pk=invoice.pk).waiting_for
    invoice.refresh_from_db()
    return invoice


def assert_all_agree(organization: Organization) -> None:
    """Every invoice agrees with the calls, together they come to the month, and the ledger holds."""
    standing = Invoice.objects.filter(organization=organization).exclude(state=Invoice.State.VOID)
    for each in standing:
        assert reconciliation.reconcile_invoice(each, deep=True).differences == []
    assert sum(each.total_minor - each.tax_minor for each in standing) == own_rounding(organization)
    assert list(verification.verify(organization.pk)) == []
    paid = [each for each in standing if each.state == Invoice.State.PAID]
    collected = Transaction.objects.filter(organization=organization, kind="collect")
    billing_something = [each for each in paid if each.total_minor or invoices.accrued_micros(each)]
    assert {each.reference for each in collected} == {invoices.collect_reference(each) for each in billing_something}
    payments = Entry.objects.filter(organization=organization, book=Entry.Book.PAYMENTS)
    paid_minor = sum(each.total_minor - each.tax_minor for each in paid)
    assert -sum(payments.values_list("micros", flat=True)) == minor_units.to_micros(paid_minor, "USD")


# ── A month ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_i04_i10_i13_i18_a_month_with_interim_invoices_comes_to_its_own_rounding(
    stripe: RunningSandbox, limited: Maker, tmp_path: Path
) -> None:
    acme = limited("acme")
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=1_234_567, reference="welcome", now=MIDMONTH)
    for seed in range(1, 6):
        use(acme, 9, seed=seed)
        assert owed(acme) < 5_000_000
    made = list(InterimInvoice.objects.filter(state=State.PAID).order_by("first_sequence"))
    assert len(made) >= 3
    spans = [(each.first_sequence, each.last_sequence) for each in made]
    assert all(before[1] + 1 == after[0] for before, after in itertools.pairwise(spans))
    month = end_month(stripe, acme)
    assert owed(acme) == 0
    assert month.lines.filter(kind=InvoiceLine.Kind.DEDUCTION).exists()
    assert month.total_minor < sum(each.invoice.total_minor for each in made if each.invoice)
    assert_all_agree(acme)
    charges = stripe.dump()["objects"]["charge"]
    assert sum(charge["amount"] for charge in charges) == own_rounding(acme)
    assert assert_all_verified(acme, tmp_path) == len(made) + 1


def test_a_month_that_interim_invoices_billed_whole_ends_at_exactly_zero(stripe: RunningSandbox, near: Maker) -> None:
    acme = near()
    interim_walk.advance_waiting(now=LATER)
    assert owed(acme) == 0
    month = end_month(stripe, acme)
    assert (month.state, month.total_minor) == (Invoice.State.PAID, 0)
    assert_all_agree(acme)


def test_what_is_billed_names_its_invoices(stripe: RunningSandbox, near: Maker) -> None:
    acme = near()
    interim_walk.advance_waiting(now=LATER)
    month = end_month(stripe, acme)
    number = InterimInvoice.objects.get().invoice.number
    line = month.lines.filter(kind=InvoiceLine.Kind.DEDUCTION, component="llm").get()
    assert line.description == f"Already invoiced on {number} · Language model"
    draft = InterimInvoice.objects.get().invoice.lines.get(component="llm")
    assert (draft.description, draft.amount_minor) == ("Language model · February 2027 so far", -line.amount_minor)


def test_i06_walking_again_changes_nothing(stripe: RunningSandbox, near: Maker) -> None:
    near()
    interim_walk.advance_waiting(now=LATER)
    before = stripe.dump()["objects"]
    interim = InterimInvoice.objects.get()
    assert interim_walk.advance(interim, now=LATER)
    assert interim_walk.advance_waiting(now=LATER) == 0
    assert stripe.dump()["objects"] == before


def test_two_months_are_never_on_one(stripe: RunningSandbox, limited: Maker, unhurried: None) -> None:
    acme = limited("acme")
    use(acme, 6, seed=1)
    march = CLOSING.replace(hour=1)
    stripe.advance_to(march.timestamp())
    record_calls(acme, 12, starts_at=march, now=march + timedelta(hours=1), seed=2)
    settlement.settle_all(acme.pk, now=march + timedelta(hours=1))
    interim_walk.advance_waiting(now=march)
    assert InterimInvoice.objects.get().month == march.date()
    february = end_month(stripe, acme)
    assert not february.lines.filter(kind=InvoiceLine.Kind.DEDUCTION).exists()
    for each in Invoice.objects.all():
        assert reconciliation.reconcile_invoice(each, deep=True).differences == []


def test_i10_i18_tax_is_charged_once(stripe: RunningSandbox, near: Maker, tmp_path: Path) -> None:
    acme = near()
    customer = Customer.objects.get(organization=acme)
    address = {"country": "DE", "postal_code": "10115", "city": "Berlin", "line1": "Street 1"}
    gateway.update("customers", customer.stripe_customer_id, {"address": address}, "address")
    taxed = {"automatic_tax": {"enabled": True}}
    gateway.update("subscriptions", customer.stripe_subscription_id or "", taxed, "taxed")
    interim_walk.advance_waiting(now=LATER)
    interim = InterimInvoice.objects.get().invoice
    assert interim.tax_minor > 0
    use(acme, 3, seed=2)
    month = end_month(stripe, acme)
    net = month.subtotal_minor + interim.subtotal_minor
    assert net == own_rounding(acme)
    # Stripe rounds the tax of each line, so two documents may differ from one by as much as their lines.
    assert abs((month.tax_minor + interim.tax_minor) - net * 19 / 100) <= month.lines.count()
    assert_all_agree(acme)
    assert assert_all_verified(acme, tmp_path) == 2


# ── Faults ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path", ["/v1/invoices", "/pay", *only_long("invoiceitems", "finalize", "/lines", "subscriptions")]
)
@pytest.mark.parametrize("fault", [*only_long("500", "429", "timeout before"), "timeout after"])
def test_f14_f17_f18_f19_any_step_may_fail_and_is_repeated(
    stripe: RunningSandbox, near: Maker, path: str, fault: str
) -> None:
    acme = near()
    if fault.startswith("timeout"):
        stripe.faults(timeout_next={"when": fault.split()[1], "seconds": 4, "path": path, "count": 1})
    else:
        stripe.faults(fail_next={"status": int(fault), "path": path, "count": 1})
    for _ in range(3):
        cache.clear()
        interim_walk.advance_waiting(now=LATER)
    assert InterimInvoice.objects.get().state == State.PAID
    objects = stripe.dump()["objects"]
    assert (len(objects["invoice"]), len(objects["charge"])) == (1, 1)
    assert len(objects["invoiceitem"]) == InterimInvoice.objects.get().lines.exclude(amount_minor=0).count()
    assert owed(acme) == 0
    assert_all_agree_so_far(acme)


def assert_all_agree_so_far(organization: Organization) -> None:
    for each in Invoice.objects.filter(organization=organization).exclude(state=Invoice.State.VOID):
        assert reconciliation.reconcile_invoice(each, deep=True).differences == []
    assert list(verification.verify(organization.pk)) == []


def test_f23_sweeps_at_once_make_one_invoice_and_one_charge(stripe: RunningSandbox, near: Maker) -> None:
    acme = near()
    together = threading.Barrier(4)

    def sweep() -> None:
        together.wait()
        interim_walk.advance_waiting(now=LATER)
        connection.close()

    threads = [threading.Thread(target=sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    interim_walk.advance_waiting(now=LATER)
    objects = stripe.dump()["objects"]
    assert (len(objects["invoice"]), len(objects["charge"]), InterimInvoice.objects.count()) == (1, 1, 1)
    assert owed(acme) == 0


def test_f20_what_was_queued_and_lost_the_sweep_finds(stripe: RunningSandbox, near: Maker) -> None:
    acme = near()
    interims.write_if_due(acme.pk, now=LATER)
    assert Invoice.objects.count() == 0
    assert interim_walk.advance_waiting(now=LATER) == 1
    assert InterimInvoice.objects.get().state == State.PAID


def test_f24_one_that_cannot_go_on_keeps_no_other_from_it(
    stripe: RunningSandbox, near: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    near("acme")
    near("other")
    advance = interim_walk.advance

    def fail_first(interim: InterimInvoice, **arguments: Any) -> bool:
        if interim.organization.reference == "acme":
            raise RuntimeError("broken")
        return advance(interim, **arguments)

    monkeypatch.setattr(interim_walk, "advance", fail_first)
    assert interim_walk.advance_waiting(now=LATER) == 1


@pytest.mark.parametrize("order", [["invoice.created", "invoice.finalized", "invoice.paid"], ["invoice.paid"]])
def test_f01_f03_webhooks_in_any_order_and_number_change_nothing(
    stripe: RunningSandbox, near: Maker, order: list[str]
) -> None:
    acme = near()
    interim_walk.advance_waiting(now=LATER)
    invoice = InterimInvoice.objects.get().invoice
    events = {event["type"]: event for event in stripe.dump()["events"] if event["type"] in order}
    for kind in [*order, *reversed(order)]:
        inbox.record(events[kind])
    inbox.handle_waiting(now=LATER)
    assert set(InboxEvent.objects.values_list("state", flat=True)) == {InboxEvent.State.DONE}
    assert Transaction.objects.filter(kind="collect").count() == 1
    invoice.refresh_from_db()
    assert invoice.state == Invoice.State.PAID
    assert_all_agree_so_far(acme)


def test_the_webhook_may_be_faster_than_our_own_answer(stripe: RunningSandbox, near: Maker) -> None:
    acme = near()
    stripe.faults(timeout_next={"when": "after", "seconds": 4, "path": "/v1/invoices", "method": "POST", "count": 1})
    interim_walk.advance_waiting(now=LATER)
    (created,) = (event for event in stripe.dump()["events"] if event["type"] == "invoice.created")
    inbox.record(created)
    inbox.handle_waiting(now=LATER)
    assert Invoice.objects.get().state == Invoice.State.DRAFT
    interim_walk.advance_waiting(now=LATER)
    assert InterimInvoice.objects.get().invoice == Invoice.objects.get()
    assert owed(acme) == 0


# ── Declined ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def declined(stripe: RunningSandbox, near: Maker) -> tuple[Organization, InterimInvoice]:
    """A customer whose interim invoice was declined, and who has reached the limit since."""
    acme = near()
    acme.billing_email = "bills@acme.example"
    acme.save()
    stripe.faults(decline_next={"code": "insufficient_funds", "count": 1})
    interim_walk.advance_waiting(now=LATER)
    use(acme, 6, seed=2)
    return acme, InterimInvoice.objects.select_related("invoice").get()


def test_f35_a_decline_is_tried_again_by_stripe_alone_and_stops_usage_at_the_limit(
    stripe: RunningSandbox, declined: tuple[Organization, InterimInvoice]
) -> None:
    acme, interim = declined
    assert interim.state == State.OPEN
    assert may_spend(acme).reason == authorization.Reason.ARREARS_LIMIT
    for _ in range(5):
        cache.clear()
        interim_walk.advance_waiting(now=LATER)
    assert InterimInvoice.objects.count() == 1
    assert len(stripe.dump()["objects"]["charge"]) == 1
    stripe.advance(2 * 86400)
    (paid,) = (event for event in stripe.dump()["events"] if event["type"] == "invoice.paid")
    inbox.record(paid)
    inbox.handle_waiting(now=LATER)
    assert may_spend(acme).allowed
    interim.refresh_from_db()
    assert interim.state == State.PAID
    assert_all_agree_so_far(acme)


def test_usage_returns_at_once_when_it_is_paid(
    stripe: RunningSandbox, declined: tuple[Organization, InterimInvoice]
) -> None:
    acme, interim = declined
    assert not may_spend(acme).allowed
    paid = charging.pay_now(interim.invoice, key="form-1", now=LATER)
    assert paid.state == Invoice.State.PAID
    assert may_spend(acme).allowed
    assert_all_agree_so_far(acme)


def test_f27_paying_twice_with_one_form_charges_once(
    stripe: RunningSandbox, declined: tuple[Organization, InterimInvoice]
) -> None:
    _, interim = declined
    together = threading.Barrier(2)

    def pay() -> None:
        together.wait()
        charging.pay_now(Invoice.objects.get(pk=interim.invoice.pk), key="form-1", now=LATER)
        connection.close()

    threads = [threading.Thread(target=pay) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    charges = stripe.dump()["objects"]["charge"]
    assert [charge["status"] for charge in charges].count("succeeded") == 1
    assert Transaction.objects.filter(kind="collect").count() == 1
    with pytest.raises(charging.NotPayable):
        charging.pay_now(Invoice.objects.get(pk=interim.invoice.pk), key="form-2", now=LATER)


def test_f29_two_tabs_charge_once(stripe: RunningSandbox, declined: tuple[Organization, InterimInvoice]) -> None:
    _, interim = declined
    first, second = (Invoice.objects.get(pk=interim.invoice.pk) for _ in range(2))
    charging.pay_now(first, key="tab-1", now=LATER)
    assert charging.pay_now(second, key="tab-2", now=LATER).state == Invoice.State.PAID
    assert [charge["status"] for charge in stripe.dump()["objects"]["charge"]].count("succeeded") == 1


def test_f17_a_payment_whose_answer_is_lost_is_repeated_with_its_key(
    stripe: RunningSandbox, declined: tuple[Organization, InterimInvoice]
) -> None:
    acme, interim = declined
    stripe.faults(timeout_next={"when": "after", "seconds": 4, "path": "/pay", "count": 1})
    with pytest.raises(gateway.Unavailable):
        charging.pay_now(interim.invoice, key="form-1", now=LATER)
    assert charging.pay_now(interim.invoice, key="form-1", now=LATER).state == Invoice.State.PAID
    assert [charge["status"] for charge in stripe.dump()["objects"]["charge"]].count("succeeded") == 1
    assert may_spend(acme).allowed


@pytest.mark.parametrize("code", ["insufficient_funds", "authentication_required"])
def test_f34_a_card_that_is_refused_again_is_said_and_changes_nothing(
    stripe: RunningSandbox, declined: tuple[Organization, InterimInvoice], code: str
) -> None:
    acme, interim = declined
    stripe.faults(decline_next={"code": code, "count": 1})
    with pytest.raises(charging.PaymentRefused) as refused:
        charging.pay_now(interim.invoice, key="form-1", now=LATER)
    assert str(refused.value)
    assert refused.value.invoice.hosted_invoice_url
    with pytest.raises(charging.PaymentRefused):
        charging.pay_now(interim.invoice, key="form-1", now=LATER)
    assert not may_spend(acme).allowed


def test_f39_a_part_that_was_paid_leaves_the_rest_open_and_too_much_is_not_counted_twice(
    declined: tuple[Organization, InterimInvoice],
) -> None:
    acme, interim = declined
    before, stripe_id = owed(acme), interim.invoice.stripe_invoice_id
    told = gateway.retrieve("invoices", stripe_id)
    part = {**told, "amount_paid": 100, "amount_remaining": told["amount_due"] - 100}
    invoice = invoices.receive(part, now=LATER)
    assert (invoice.state, invoice.open_minor) == (Invoice.State.OPEN, told["amount_due"] - 100)
    assert owed(acme) == before
    assert not may_spend(acme).allowed
    # Stripe puts what is too much into the customer's balance; the invoice is paid with what was due.
    whole = {**told, "status": "paid", "amount_paid": told["amount_due"], "amount_remaining": 0}
    for _ in range(2):
        invoices.receive({**whole, "amount_overpaid": 250}, now=LATER)
    assert owed(acme) == before - interims.micros(interim)
    assert Transaction.objects.filter(kind="collect").count() == 1


# ── The month's end ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_that_is_unpaid_at_the_months_end_is_billed_once(
    stripe: RunningSandbox, declined: tuple[Organization, InterimInvoice]
) -> None:
    acme, interim = declined
    gateway.update("invoices", interim.invoice.stripe_invoice_id, {"auto_advance": False}, "no-retries")
    month = end_month(stripe, acme)
    assert month.state == Invoice.State.PAID
    assert owed(acme) == interims.micros(interim)
    assert may_spend(acme).allowed == (interims.micros(interim) < 5_000_000)
    charging.pay_now(interim.invoice, key="form", now=CLOSING)
    assert owed(acme) == 0
    assert_all_agree(acme)


def test_the_month_waits_for_one_that_stripe_has_not_finalized(stripe: RunningSandbox, near: Maker) -> None:
    acme = near()
    interims.write_if_due(acme.pk, now=LATER)
    stripe.advance_to(CLOSING.timestamp())
    invoice = invoice_of(acme)
    stripe.faults(fail_next={"status": 500, "path": "/v1/invoices", "method": "POST", "count": 1})
    month_end.advance(invoice, now=CLOSING)
    assert not month_end.advance(invoice, now=CLOSING) or InterimInvoice.objects.get().invoice is not None
    for _ in range(3):
        month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    assert (invoice.state, invoice.total_minor) == (Invoice.State.PAID, 0)
    assert InterimInvoice.objects.get().state == State.PAID
    assert_all_agree(acme)


def test_one_that_stripe_refuses_is_given_up_and_the_month_bills_all(stripe: RunningSandbox, near: Maker) -> None:
    acme = near()
    customer = Customer.objects.get(organization=acme)
    taxed = {"automatic_tax": {"enabled": True}}
    gateway.update("subscriptions", customer.stripe_subscription_id or "", taxed, "taxed")
    interim_walk.advance_waiting(now=LATER)
    interim = InterimInvoice.objects.select_related("invoice").get()
    assert "location" in interim.waiting_for
    assert interim.invoice.state == Invoice.State.DRAFT
    gateway.update(
        "subscriptions", customer.stripe_subscription_id or "", {"automatic_tax": {"enabled": False}}, "untaxed"
    )
    month = end_month(stripe, acme)
    interim.refresh_from_db()
    assert (interim.state, interim.invoice.state) == (State.VOID, Invoice.State.VOID)
    assert month.total_minor == own_rounding(acme) > 0
    for event in stripe.dump()["events"]:
        if event["type"] == "invoice.deleted":
            inbox.record(event)
    inbox.handle_waiting(now=CLOSING)
    assert not InboxEvent.objects.exclude(state=InboxEvent.State.DONE).exists()
    assert_all_agree(acme)


def test_one_that_was_voided_at_stripe_is_billed_again_by_the_next(
    stripe: RunningSandbox, declined: tuple[Organization, InterimInvoice]
) -> None:
    acme, interim = declined
    gateway.act("invoices", "void_invoice", interim.invoice.stripe_invoice_id, {}, "void")
    cache.clear()
    interim_walk.advance_waiting(now=LATER)
    interim.refresh_from_db()
    assert interim.state == State.VOID
    interim_walk.advance_waiting(now=LATER)
    assert owed(acme) == 0
    end_month(stripe, acme)
    assert_all_agree(acme)


def test_a_draft_that_somebody_deleted_is_billed_again(stripe: RunningSandbox, near: Maker) -> None:
    acme = near()
    stripe.faults(fail_next={"status": 500, "path": "finalize", "count": 1})
    interim_walk.advance_waiting(now=LATER)
    draft = InterimInvoice.objects.get().invoice
    gateway.act("invoices", "delete", draft.stripe_invoice_id, {}, "deleted-by-hand")
    interim_walk.advance_waiting(now=LATER)
    interim_walk.advance_waiting(now=LATER)
    assert list(InterimInvoice.objects.order_by("id").values_list("state", flat=True)) == [State.VOID, State.PAID]
    assert owed(acme) == 0
    assert_all_agree_so_far(acme)


# ── The reconciliation ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [InvoiceLine.Kind.INTERIM, InvoiceLine.Kind.DEDUCTION])
def test_i10_one_minor_unit_off_is_found(stripe: RunningSandbox, near: Maker, kind: str) -> None:
    acme = near()
    interim_walk.advance_waiting(now=LATER)
    end_month(stripe, acme)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE billing_invoiceline DISABLE TRIGGER USER")
        dearer = "UPDATE billing_invoiceline SET amount_minor = amount_minor + 1 WHERE kind = %s AND component = 'llm'"
        cursor.execute(dearer, [kind])
        cursor.execute("ALTER TABLE billing_invoiceline ENABLE TRIGGER USER")
    found = [
        difference
        for each in Invoice.objects.all()
        for difference in reconciliation.reconcile_invoice(each, deep=False).differences
    ]
    assert {difference.level for difference in found} == {"line amount", "total"}
    assert {(difference.theirs or 0) - (difference.ours or 0) for difference in found} <= {1, -1}


def test_i04_one_that_was_voided_after_its_month_was_billed_is_named(
    stripe: RunningSandbox, declined: tuple[Organization, InterimInvoice]
) -> None:
    acme, interim = declined
    gateway.update("invoices", interim.invoice.stripe_invoice_id, {"auto_advance": False}, "no-retries")
    month = end_month(stripe, acme)
    gateway.act("invoices", "void_invoice", interim.invoice.stripe_invoice_id, {}, "void")
    invoices.receive(gateway.retrieve("invoices", interim.invoice.stripe_invoice_id), now=CLOSING)
    differences = reconciliation.reconcile_invoice(month, deep=False).differences
    assert {"line amount", "payment"} == {difference.level for difference in differences}
    assert all("Already invoiced" in difference.subject for difference in differences if difference.level != "payment")
