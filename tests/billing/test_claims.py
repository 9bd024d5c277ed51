"""F37, F38: refunds, chargebacks and warnings of fraud move exactly what they must, once, in any order."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from accounts.models import Letter, Organization, User
from billing_portal.billing import (
    claim_sources,
    claim_sweep,
    claims,
    credit_note_issuing,
    credit_notes,
    gateway,
    inbox,
    month_end,
    purchase_payment,
    purchases,
    reconciliation,
)
from billing_portal.billing.models import Chargeback, FraudWarning, InboxEvent, Invoice, Purchase, Refund
from billing_portal.ledger import balances, verification
from billing_portal.ledger import claims as books
from billing_portal.ledger.models import Account, Grant, Transaction
from billing_portal.support import actions, kinds
from tests.billing.conftest import MakeBuyer
from tests.billing.world import CLOSING, MIDMONTH, Buyer, invoice_of, load_prices, use
from tests.stripe.conftest import RunningSandbox

CENT, DOLLAR = 10_000, 1_000_000
FIFTY = 50 * DOLLAR
NOW = MIDMONTH


@pytest.fixture
def bought(buyer: MakeBuyer) -> Callable[..., Purchase]:
    """Return a maker of fifty dollars of credit, paid with one of Stripe's test cards; `spent` calls use some of it."""

    def make(card: str = "pm_card_visa", *, calls: int = 0) -> Purchase:
        made = buyer("acme", card=card)
        purchase = _buy(made)
        if calls:
            load_prices()
            use(made.organization, calls, seed=1)
        return purchase

    return make


def _ask(buyer: Buyer) -> Purchase:
    return purchases.ask(
        organization=buyer.organization,
        user=buyer.owner,
        micros=FIFTY,
        currency="USD",
        way=Purchase.Way.CARD,
        key=purchases.next_key(buyer.organization),
        payment_method=buyer.card,
        now=NOW,
    )


def _buy(buyer: Buyer) -> Purchase:
    purchase = _ask(buyer)
    purchase_payment.advance(purchase, now=NOW)
    assert purchase.state == Purchase.State.CREDITED
    return purchase


def take_in_events() -> None:
    inbox.catch_up(NOW)
    inbox.handle_waiting(now=NOW)
    waiting = InboxEvent.objects.filter(state__in=[InboxEvent.State.RECEIVED, InboxEvent.State.PARKED])
    assert not waiting.exists(), list(waiting.values("type", "reason"))


def balance(organization: Organization) -> tuple[int, int]:
    """Return credit left and what is owed."""
    found = balances.balance(Account.objects.get(organization=organization), now=NOW)
    return found.credit_micros, found.accrued_micros


def payment_of(invoice: Invoice) -> str:
    (payment,) = gateway.list_all("invoice_payments", {"invoice": invoice.stripe_invoice_id})
    return str(payment["payment"]["payment_intent"])


def refund(invoice: Invoice, minor: int, key: str) -> gateway.Object:
    return gateway.create("refunds", {"payment_intent": payment_of(invoice), "amount": minor}, key)


def assert_proved(organization: Organization) -> None:
    assert list(verification.verify(organization.pk)) == []


# Credit


def test_f2_f38_i15_partial_refunds_each_take_back_their_share_once(bought: Callable[..., Purchase]) -> None:
    purchase = bought()
    for number, left in ((1, 40), (2, 30)):
        refund(purchase.invoice, 1_000, f"r{number}")
        for _ in range(2):
            take_in_events()
        assert balance(purchase.organization) == (left * DOLLAR, 0)
    refund(purchase.invoice, 3_000, "rest")
    take_in_events()
    assert (balance(purchase.organization), Refund.objects.count()) == ((0, 0), 3)
    with pytest.raises(gateway.Refused):
        refund(purchase.invoice, 1, "more than was paid")
    assert_proved(purchase.organization)


def test_f38_what_was_spent_of_refunded_credit_is_owed(bought: Callable[..., Purchase]) -> None:
    purchase = bought(calls=60)
    left, _ = balance(purchase.organization)
    assert 0 < left < FIFTY
    refund(purchase.invoice, 5_000, "all")
    take_in_events()
    assert balance(purchase.organization) == (0, FIFTY - left)
    assert_proved(purchase.organization)


def test_f38_a_refund_that_fails_restores_what_it_took(bought: Callable[..., Purchase], stripe: RunningSandbox) -> None:
    purchase = bought("pm_card_refundFail", calls=60)
    before = balance(purchase.organization)
    made = refund(purchase.invoice, 5_000, "all")
    claim_sources.trace(made, now=NOW)
    claims.receive_refund(made, now=NOW)
    assert balance(purchase.organization) == (0, FIFTY - before[0])
    stripe.advance_to((NOW).timestamp() + 60)
    take_in_events()
    assert balance(purchase.organization) == before
    claims.receive_refund(made, now=NOW)
    assert Refund.objects.get().state == Refund.State.FAILED
    assert balance(purchase.organization) == before
    assert_proved(purchase.organization)


@pytest.mark.parametrize(("evidence", "state"), [("winning_evidence", "won"), ("losing_evidence", "lost")])
def test_f37_disputed_credit_is_held_then_restored_or_gone_once(
    bought: Callable[..., Purchase], stripe: RunningSandbox, evidence: str, state: str
) -> None:
    purchase = bought("pm_card_createDispute", calls=60)
    before, _ = balance(purchase.organization)
    take_in_events()
    chargeback = Chargeback.objects.get()
    assert (chargeback.state, chargeback.invoice, balance(purchase.organization)) == ("open", purchase.invoice, (0, 0))
    assert "Acme: a payment is disputed" in Letter.objects.values_list("subject", flat=True)
    changes = {"evidence": {"uncategorized_text": evidence}}
    gateway.update("disputes", chargeback.stripe_dispute_id, changes, "evidence")
    stripe.advance_to(NOW.timestamp() + 60)
    for _ in range(2):
        take_in_events()
        claims.receive_chargeback(gateway.retrieve("disputes", chargeback.stripe_dispute_id), now=NOW)
    chargeback.refresh_from_db()
    assert chargeback.state == state
    assert balance(purchase.organization) == ((before, 0) if state == "won" else (0, FIFTY - before))
    assert_proved(purchase.organization)


def test_f3_f37_any_order_of_what_is_told_of_a_dispute_ends_the_same(bought: Callable[..., Purchase]) -> None:
    purchase = bought(calls=30)
    left, _ = balance(purchase.organization)
    told = {"charge": "ch_1", "payment_intent": payment_of(purchase.invoice), "amount": 5_000, "currency": "usd"}
    told |= {"created": int(NOW.timestamp()), "reason": "fraudulent"}
    claim_sources.trace(told, now=NOW)
    statuses = ("needs_response", "under_review", "lost")
    for number, order in enumerate(itertools.permutations(statuses)):
        for status in order:
            claims.receive_chargeback({**told, "id": f"du_{number}", "status": status}, now=NOW)
        assert balance(purchase.organization) == (0, FIFTY - left)
    assert_proved(purchase.organization)


@pytest.mark.long
def test_an_inquiry_holds_nothing(bought: Callable[..., Purchase]) -> None:
    purchase = bought("pm_card_createDisputeInquiry")
    take_in_events()
    assert Chargeback.objects.get().state == Chargeback.State.INQUIRY
    assert balance(purchase.organization) == (FIFTY, 0)


@pytest.mark.parametrize("holds", [True, False])
def test_a_warning_of_fraud_holds_credit_by_the_setting_until_somebody_decides(
    bought: Callable[..., Purchase], make_user: Callable[..., User], settings: Any, holds: bool
) -> None:
    settings.FRAUD_WARNING_HOLDS_CREDIT = holds
    purchase = bought("pm_card_createIssuerFraudRecord")
    take_in_events()
    warning = FraudWarning.objects.get()
    assert (warning.state, warning.holds_credit, warning.fraud_type) == ("open", holds, "unauthorized_use_of_card")
    assert balance(purchase.organization) == ((0 if holds else FIFTY), 0)
    settings.FRAUD_WARNING_HOLDS_CREDIT = not holds
    take_in_events()
    assert balance(purchase.organization) == ((0 if holds else FIFTY), 0)
    sam = make_user("sam@desk.example", is_staff=True)
    for _ in range(2):
        claims.dismiss(warning, by=sam, now=NOW)
    assert balance(purchase.organization) == (FIFTY, 0)
    refund(purchase.invoice, 5_000, "all")
    take_in_events()
    warning.refresh_from_db()
    assert (warning.state, balance(purchase.organization)) == ("settled", (0, 0))
    assert_proved(purchase.organization)


def test_staff_refund_credit_by_a_note_and_the_credit_goes_once(
    bought: Callable[..., Purchase], make_user: Callable[..., User]
) -> None:
    purchase = bought()
    sam = make_user("sam@desk.example", is_staff=True)
    params = {"invoice": purchase.invoice.pk, "micros": 20 * DOLLAR, "to": "card"}
    asked = {"kind": kinds.named("credit_note"), "organization": purchase.organization, "params": params, "by": sam}
    notes = [change.note for change in actions.preview(**asked, now=NOW).changes]
    assert {"20.00 USD", "0.00 USD"} <= set(notes)
    actions.ask(**asked, reason="Bought by mistake", public_id=purchase.public_id, now=NOW)
    credit_note_issuing.issue_waiting(now=NOW)
    take_in_events()
    assert balance(purchase.organization) == (30 * DOLLAR, 0)
    assert Refund.objects.get().amount_minor == 2_000
    to_balance = credit_notes.ask(
        invoice=purchase.invoice,
        micros=10 * DOLLAR,
        reason="Off the next invoice",
        reference="b",
        cause="staff",
        to="balance",
        now=NOW,
    )
    credit_note_issuing.issue(to_balance, now=NOW)
    take_in_events()
    assert balance(purchase.organization) == (20 * DOLLAR, 0)
    assert reconciliation.reconcile_invoice(Invoice.objects.get(pk=purchase.invoice.pk), deep=True).differences == []
    assert_proved(purchase.organization)


def test_i06_claims_told_twice_or_lowered_leave_what_is_due(bought: Callable[..., Purchase]) -> None:
    purchase = bought()
    grant = Grant.objects.get()

    def claim(claimed: int, held: int) -> None:
        books.claim_credit(
            organization=purchase.organization,
            grant_id=grant.pk,
            claimed_micros=claimed,
            held_micros=held,
            subject="s",
            reason="r",
            now=NOW,
        )

    for claimed, held in ((0, 30), (10, 30), (10, 10), (60, 0), (0, 0), (5, 20), (0, 0)):
        for _ in range(2):
            claim(claimed, held)
        assert balance(purchase.organization) == (FIFTY - max(claimed, held), 0)
    assert Transaction.objects.filter(kind="claim").count() == 6
    assert_proved(purchase.organization)


def test_i13_a_purchase_that_a_credit_note_settled_gives_no_credit(buyer: MakeBuyer) -> None:
    made = buyer("acme", card="pm_card_authenticationRequired")
    purchase = _ask(made)
    purchase_payment.advance(purchase, now=NOW)
    assert purchase.state == Purchase.State.NEEDS_ACTION
    invoice = purchase.invoice
    told = {"invoice": invoice.stripe_invoice_id, "amount": invoice.total_minor}
    gateway.create("credit_notes", told, "instead of a payment")
    take_in_events()
    purchase.refresh_from_db()
    assert (purchase.state, balance(purchase.organization)) == (Purchase.State.CANCELED, (0, 0))


# Usage that was paid


@pytest.fixture
def paid(used: Callable[..., Organization]) -> Callable[..., Invoice]:
    def make(card: str = "pm_card_visa") -> Invoice:
        invoice = invoice_of(used("acme", card=card, credit_micros=0))
        month_end.advance(invoice, now=CLOSING)
        return Invoice.objects.get(pk=invoice.pk)

    return make


def test_f38_usage_refunded_by_hand_is_owed_again(paid: Callable[..., Invoice]) -> None:
    invoice = paid()
    refund(invoice, 400, "by hand")
    for _ in range(2):
        take_in_events()
    assert balance(invoice.organization) == (0, 400 * CENT)
    assert_proved(invoice.organization)


@pytest.mark.long
def test_f37_usage_charged_back_for_good_is_owed_again(paid: Callable[..., Invoice], stripe: RunningSandbox) -> None:
    invoice = paid("pm_card_createDispute")
    take_in_events()
    assert balance(invoice.organization) == (0, 0)
    gateway.act("disputes", "close", Chargeback.objects.get().stripe_dispute_id, {}, "concede")
    take_in_events()
    assert balance(invoice.organization) == (0, invoice.total_minor * CENT)
    assert_proved(invoice.organization)


def test_f38_a_credit_note_whose_refund_fails_gives_credit_instead(
    paid: Callable[..., Invoice], stripe: RunningSandbox
) -> None:
    invoice = paid("pm_card_refundFail")
    note = credit_notes.ask(
        invoice=invoice, micros=300 * CENT, reason="Outage", reference="n", cause="staff", now=CLOSING
    )
    credit_note_issuing.issue(note, now=CLOSING)
    take_in_events()
    stripe.advance_to(CLOSING.timestamp() + 60)
    for _ in range(2):
        take_in_events()
    assert balance(invoice.organization) == (300 * CENT, 0)
    assert Grant.objects.get().kind == Grant.Kind.CORRECTION
    assert_proved(invoice.organization)


def test_f4_what_is_open_is_asked_for_again_where_its_events_are_lost(
    bought: Callable[..., Purchase], stripe: RunningSandbox
) -> None:
    purchase = bought("pm_card_createDispute")
    take_in_events()
    dispute = Chargeback.objects.get().stripe_dispute_id
    gateway.update("disputes", dispute, {"evidence": {"uncategorized_text": "winning_evidence"}}, "evidence")
    stripe.advance_to(NOW.timestamp() + 60)
    for _ in range(2):
        claim_sweep.look_again(now=NOW)
        assert balance(purchase.organization) == (FIFTY, 0)
    assert claim_sweep.look_again(now=NOW) == 0
