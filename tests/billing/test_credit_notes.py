"""Credit notes: a finalized invoice is lowered to the cent, once, and not a byte of it changes."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ObjectDoesNotExist
from django.test import Client
from django.urls import reverse

from accounts.models import Organization, User
from billing_portal.billing import (
    bad_debts,
    credit_lines,
    credit_note_issuing,
    credit_notes,
    crediting,
    gateway,
    inbox,
    invoices,
    metering,
    month_end,
    reconciliation,
)
from billing_portal.billing.models import CreditNote, InboxEvent, Intent, Invoice
from billing_portal.ledger import balances, periods, settling, verification
from billing_portal.ledger.models import Account, Entry
from billing_portal.support import actions, kinds
from tests.billing.world import CLOSING, MONTH, invoice_of
from tests.conftest import join
from tests.stripe.conftest import RunningSandbox

Used = Callable[..., Organization]
CENT = 10_000
State, Cause, To = CreditNote.State, CreditNote.Cause, CreditNote.To
DECLINED = "pm_card_chargeCustomerFail"


@pytest.fixture
def billed(used: Used) -> Callable[..., Invoice]:
    """Return a maker of February's invoice, finalized and charged."""

    def make(*, card: str = "pm_card_visa", **fields: Any) -> Invoice:
        invoice = invoice_of(used("acme", card=card, credit_micros=0, **fields))
        month_end.advance(invoice, now=CLOSING)
        return Invoice.objects.get(pk=invoice.pk)

    return make


def ask(invoice: Invoice, micros: int, *, reference: str = "n1", **fields: Any) -> CreditNote:
    fields = {"reason": "Voice engine was down on 12 February", "cause": Cause.STAFF, "now": CLOSING, **fields}
    return credit_notes.ask(invoice=invoice, micros=micros, reference=reference, **fields)


def make(invoice: Invoice, micros: int, **fields: Any) -> CreditNote:
    note = ask(invoice, micros, **fields)
    assert credit_note_issuing.issue(note, now=CLOSING)
    invoice.refresh_from_db()
    return note


def owed(invoice: Invoice) -> int:
    account = Account.objects.get(organization=invoice.organization)
    return balances.balance(account, now=CLOSING).accrued_micros


def paid_in(invoice: Invoice) -> int:
    entries = Entry.objects.filter(organization=invoice.organization, book=Entry.Book.PAYMENTS)
    return -sum(entries.values_list("micros", flat=True))


def credit_due(invoice: Invoice) -> int:
    return sum(credit.amount_minor for credit in credit_lines.due(invoice))


def take_in_events() -> None:
    inbox.catch_up(CLOSING)
    inbox.handle_waiting(now=CLOSING)
    waiting = InboxEvent.objects.filter(state__in=[InboxEvent.State.RECEIVED, InboxEvent.State.PARKED])
    assert not waiting.exists(), list(waiting.values("type", "reason"))


def assert_true(invoice: Invoice) -> None:
    invoice.refresh_from_db()
    assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []
    assert list(verification.verify(invoice.organization_id)) == []


def test_i12_an_open_invoice_is_lowered_once_and_its_bytes_stand(billed: Callable[..., Invoice]) -> None:
    invoice = billed(card=DECLINED)
    before, lines, total = owed(invoice), list(invoice.lines.values()), invoice.total_minor
    note = make(invoice, 500 * CENT)
    assert ask(invoice, 500 * CENT).pk == note.pk
    assert credit_note_issuing.issue(note, now=CLOSING)
    take_in_events()
    note.refresh_from_db()
    assert (note.state, note.pre_minor, note.post_minor, note.net_minor) == (State.ISSUED, 500, 0, 500)
    assert note.number
    assert note.pdf_url
    assert owed(invoice) == before - 500 * CENT
    invoice.refresh_from_db()
    assert (invoice.total_minor, invoice.open_minor) == (total, total - 500)
    assert list(invoice.lines.values()) == lines
    assert Intent.objects.filter(verb="create credit note").count() == 1
    assert_true(invoice)


def test_what_is_left_of_an_open_invoice_is_all_that_is_collected(
    billed: Callable[..., Invoice], stripe: RunningSandbox
) -> None:
    invoice = billed(card=DECLINED)
    make(invoice, 500 * CENT)
    gateway.act("invoices", "pay", invoice.stripe_invoice_id, {"paid_out_of_band": True}, "late")
    invoices.receive(gateway.retrieve("invoices", invoice.stripe_invoice_id), now=CLOSING)
    assert owed(invoice) == 0
    assert paid_in(invoice) == (invoice.total_minor - 500) * CENT
    take_in_events()
    assert list(verification.verify(invoice.organization_id)) == []


@pytest.mark.parametrize("payment_first", [True, False])
def test_f03_a_note_over_all_of_it_pays_the_invoice_whichever_event_comes_first(
    billed: Callable[..., Invoice], payment_first: bool
) -> None:
    invoice = billed(card=DECLINED)
    ask(invoice, crediting.left_micros(invoice))
    params = {"invoice": invoice.stripe_invoice_id, "amount": invoice.total_minor}
    told = gateway.create("credit_notes", params, "at-stripe")
    CreditNote.objects.update(state=State.REFUSED, due_at=None)
    for step in ("invoice", "note") if payment_first else ("note", "invoice"):
        if step == "invoice":
            invoices.receive(gateway.retrieve("invoices", invoice.stripe_invoice_id), now=CLOSING)
        else:
            credit_notes.receive(told, now=CLOSING)
    invoice.refresh_from_db()
    assert (invoice.state, invoice.is_carried_over, invoice.open_minor) == (Invoice.State.PAID, False, 0)
    assert (owed(invoice), paid_in(invoice)) == (0, 0)
    assert CreditNote.objects.get(state=State.ISSUED).cause == Cause.STRIPE
    assert list(verification.verify(invoice.organization_id)) == []


def test_f38_of_a_paid_invoice_the_money_goes_back_to_the_card_and_no_more_than_was_paid(
    billed: Callable[..., Invoice],
) -> None:
    invoice = billed()
    total = invoice.total_minor
    first = make(invoice, 300 * CENT)
    assert (first.post_minor, first.refunded_minor, first.balance_minor) == (300, 300, 0)
    with pytest.raises(credit_notes.AmountRefused) as refused:
        ask(invoice, (total - 299) * CENT, reference="n2")
    assert refused.value.left_micros == (total - 300) * CENT
    make(invoice, (total - 300) * CENT, reference="n2")
    assert [each["amount"] for each in gateway.list_all("refunds")] == [total - 300, 300]
    assert (paid_in(invoice), owed(invoice), crediting.left_micros(invoice)) == (0, 0, 0)
    take_in_events()
    assert_true(invoice)


@pytest.mark.long
def test_it_goes_to_the_balance_where_that_is_wanted(
    billed: Callable[..., Invoice],
) -> None:
    invoice = billed()
    note = make(invoice, 300 * CENT, to=To.BALANCE)
    assert (note.refunded_minor, note.balance_minor) == (0, 300)
    customer = gateway.retrieve("customers", invoice.organization.customer.stripe_customer_id)
    assert customer["balance"] == -300
    take_in_events()
    assert_true(invoice)


@pytest.mark.long
def test_f38_what_was_refunded_by_hand_before_is_not_refunded_again(billed: Callable[..., Invoice]) -> None:
    invoice = billed()
    (payment,) = gateway.list_all("invoice_payments", {"invoice": invoice.stripe_invoice_id})
    by_hand = {"payment_intent": payment["payment"]["payment_intent"], "amount": invoice.total_minor - 100}
    gateway.create("refunds", by_hand, "by-hand")
    note = make(invoice, 300 * CENT)
    assert (note.refunded_minor, note.balance_minor) == (100, 200)


def test_f14_f17_a_lost_answer_makes_no_second_note(
    billed: Callable[..., Invoice], stripe: RunningSandbox, settings: Any
) -> None:
    invoice = billed()
    note = ask(invoice, 300 * CENT)
    stripe.faults(timeout_next={"count": 1, "seconds": 2, "when": "after", "path": "/v1/credit_notes"})
    settings.STRIPE_TIMEOUT_SECONDS = 0.5
    assert not credit_note_issuing.issue(note, now=CLOSING)
    settings.STRIPE_TIMEOUT_SECONDS = 5
    assert note.state == State.ASKED
    assert credit_note_issuing.issue_waiting(now=note.due_at) == 1
    assert len(list(gateway.list_all("credit_notes"))) == 1
    assert paid_in(invoice) == (invoice.total_minor - 300) * CENT


def test_f31_paid_between_the_asking_and_the_making_it_is_refunded(billed: Callable[..., Invoice]) -> None:
    invoice = billed(card=DECLINED)
    note = ask(invoice, 300 * CENT)
    reference = f"credit_note:{note.public_id}"
    before = {"invoice": invoice.stripe_invoice_id, "amount": 300}
    Intent.objects.create(
        verb="create credit note",
        reference=reference,
        idempotency_key="k",
        params=before,
        organization=invoice.organization,
        created_at=CLOSING,
    )
    gateway.act("invoices", "pay", invoice.stripe_invoice_id, {"paid_out_of_band": True}, "late")
    assert credit_note_issuing.issue(note, now=CLOSING)
    assert (note.state, note.post_minor, note.balance_minor) == (State.ISSUED, 300, 300)


def test_a_note_voided_at_stripe_restores_the_debt(billed: Callable[..., Invoice]) -> None:
    invoice = billed(card=DECLINED)
    before = owed(invoice)
    params = {"invoice": invoice.stripe_invoice_id, "amount": 250, "memo": "By phone"}
    made = gateway.create("credit_notes", params, "at-stripe")
    take_in_events()
    note = CreditNote.objects.get()
    assert (note.cause, note.reason, owed(invoice)) == (Cause.STRIPE, "By phone", before - 250 * CENT)
    gateway.act("credit_notes", "void_credit_note", made["id"], {}, "void")
    for _ in range(2):
        take_in_events()
        credit_notes.receive(gateway.retrieve("credit_notes", made["id"]), now=CLOSING)
    note.refresh_from_db()
    assert (note.state, owed(invoice)) == (State.VOID, before)
    assert_true(invoice)


def test_i11_tax_goes_back_in_proportion_and_whole_with_the_whole(billed: Callable[..., Invoice]) -> None:
    invoice = billed()
    Invoice.objects.filter(pk=invoice.pk).update(total_minor=1_190, tax_minor=190)
    invoice.refresh_from_db()
    assert [crediting.net_minor(invoice, gross) for gross in (1, 595, 1_190)] == [1, 500, 1_000]
    assert crediting.gross_minor(invoice, 500 * CENT) == 595
    gone = 0
    for number in range(3):
        note = ask(invoice, 333 * CENT, reference=f"n{number}")
        gone += note.total_minor
    rest = ask(invoice, crediting.left_micros(invoice), reference="rest")
    assert gone + rest.total_minor == 1_190
    assert sum(CreditNote.objects.values_list("net_minor", flat=True)) == 1_000


def test_a_draft_a_written_off_and_a_bought_one_are_refused(used: Used) -> None:
    invoice = invoice_of(used("acme", card=DECLINED, credit_micros=0))
    with pytest.raises(credit_notes.NotCreditable, match="draft"):
        ask(invoice, CENT)
    month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    bad_debts.stop_collecting(invoice, now=CLOSING)
    invoice.refresh_from_db()
    bad_debts.write_off(invoice, reason="Insolvent", reference="w", now=CLOSING)
    with pytest.raises(credit_notes.NotCreditable, match="written off"):
        ask(invoice, CENT)
    with pytest.raises(ObjectDoesNotExist):
        CreditNote.objects.get()


def test_f49_a_reference_names_one_note(billed: Callable[..., Invoice]) -> None:
    invoice = billed()
    ask(invoice, 100 * CENT)
    with pytest.raises(credit_notes.ReferenceReused):
        ask(invoice, 101 * CENT)
    with pytest.raises(credit_notes.AmountRefused):
        ask(invoice, 4_999, reference="less than half a cent")


@pytest.mark.long
def test_what_is_owed_after_a_note_is_all_that_can_be_written_off(billed: Callable[..., Invoice]) -> None:
    invoice = billed(card=DECLINED)
    make(invoice, 500 * CENT)
    assert bad_debts.owed_micros(invoice, now=CLOSING) == owed(invoice)


@pytest.mark.parametrize("card", ["pm_card_visa", DECLINED])
def test_what_stripe_finalized_too_early_is_put_right_by_a_note(used: Used, card: str) -> None:
    acme = used("acme", card=card)
    invoice = invoice_of(acme)
    settling.settle_all(acme.pk, now=CLOSING)
    periods.close(acme.pk, MONTH, now=CLOSING)
    metering.write_reports(acme.pk, now=CLOSING)
    metering.send_reports(organization_id=acme.pk, now=CLOSING)
    gateway.act("invoices", "finalize_invoice", invoice.stripe_invoice_id, {"auto_advance": False}, "too-early")
    for _ in range(2):
        assert month_end.advance(invoice, now=CLOSING)
    note = CreditNote.objects.get()
    assert (note.cause, note.state, note.net_minor) == (Cause.MISBILLED, State.ISSUED, credit_due(invoice))
    invoice.refresh_from_db()
    assert invoice.waiting_for == ""
    assert invoice.state == (Invoice.State.PAID if card == "pm_card_visa" else Invoice.State.OPEN)
    take_in_events()
    assert_true(invoice)
    if invoice.state == Invoice.State.PAID:
        assert owed(invoice) == 0


@pytest.mark.long
def test_found_only_after_it_was_paid_it_is_refunded(used: Used) -> None:
    acme = used("acme")
    invoice = invoice_of(acme)
    settling.settle_all(acme.pk, now=CLOSING)
    metering.write_reports(acme.pk, now=CLOSING)
    metering.send_reports(organization_id=acme.pk, now=CLOSING)
    gateway.act("invoices", "finalize_invoice", invoice.stripe_invoice_id, {"auto_advance": False}, "too-early")
    gateway.act("invoices", "pay", invoice.stripe_invoice_id, {}, "paid")
    assert month_end.advance(invoice, now=CLOSING)
    note = CreditNote.objects.get()
    assert (note.refunded_minor, note.net_minor, owed(invoice)) == (credit_due(invoice), credit_due(invoice), 0)
    take_in_events()
    assert_true(invoice)


def test_what_stripe_refuses_waits_for_a_person_and_can_be_tried_again(
    billed: Callable[..., Invoice], stripe: RunningSandbox
) -> None:
    invoice = billed()
    note = ask(invoice, 300 * CENT)
    stripe.faults(fail_next={"count": 2, "status": 400, "path": "/v1/credit_notes"})
    assert credit_note_issuing.issue(note, now=CLOSING)
    assert note.state == State.REFUSED
    levels = {each.level for each in reconciliation.reconcile_invoice(invoice, deep=False).differences}
    assert levels == {"credit notes"}
    stripe.faults(fail_next={})
    credit_notes.retry(note, now=CLOSING)
    assert credit_note_issuing.issue(note, now=CLOSING)
    assert note.state == State.ISSUED
    assert_true(invoice)


def test_staff_give_one_in_three_steps_and_the_page_shows_it(
    billed: Callable[..., Invoice], make_user: Callable[..., User], client: Client
) -> None:
    invoice = billed()
    sam = make_user("sam@desk.example", is_staff=True)
    params = {"invoice": invoice.pk, "micros": 300 * CENT, "to": "card"}
    asked = {"kind": kinds.named("credit_note"), "organization": invoice.organization, "params": params, "by": sam}
    seen = actions.preview(**asked, now=CLOSING)
    left = (invoice.total_minor * CENT, (invoice.total_minor - 300) * CENT)
    assert (seen.changes[0].before_micros, seen.changes[0].after_micros) == left
    for _ in range(2):
        actions.ask(**asked, reason="Outage on 12 February", public_id=invoice.public_id, now=CLOSING)
    credit_note_issuing.issue_waiting(now=CLOSING)
    note = CreditNote.objects.get()
    assert (note.state, note.refunded_minor, note.asked_by) == (State.ISSUED, 300, sam)
    owner = make_user("owner@acme.example")
    join(invoice.organization, owner, "owner")
    client.force_login(owner)
    invoice.refresh_from_db()
    page = client.get(reverse("invoice", args=[invoice.organization.public_id, invoice.public_id])).content.decode()
    assert note.number in page
    assert "Outage on 12 February" in page
    assert "$3.00 went back to the" in page
