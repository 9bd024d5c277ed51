"""Each verb by which money goes back, done by eight connections at once: refunds, chargebacks, credit notes, disputes.

See `tests.ledger.racing`; Stripe is not asked.
"""

import time
import uuid
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

import pytest
from django.db import transaction

from accounts.models import Letter, Organization, User
from billing_portal.billing import claims, credit_notes
from billing_portal.billing.disputes import cases
from billing_portal.billing.models import (
    Chargeback,
    CreditNote,
    Dispute,
    FraudWarning,
    Invoice,
    InvoicePayment,
    Purchase,
    Refund,
)
from billing_portal.ledger import balances, credits, journal
from billing_portal.ledger.models import Account, Grant, Transaction
from tests.ledger import racing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nothing_is_queued")]

OCTOBER = date(2026, 10, 1)
CENT, DOLLAR = 10_000, 1_000_000
FIFTY = 50 * DOLLAR
State = CreditNote.State


def refusals(answers: Iterable[Any]) -> Counter[type]:
    return Counter(type(answer) for answer in answers if isinstance(answer, Exception))


def credit_of(organization: Organization, now: datetime) -> int:
    return balances.balance(Account.objects.get(organization=organization), now=now).credit_micros


# ── Payments that went back ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def paid(customers: list[Organization], alice: User, now: datetime) -> dict[int, Invoice]:
    """The invoices of fifty dollars of credit each, paid and credited."""
    invoices = invoice_all(customers, now, month=None, state=Invoice.State.PAID)
    InvoicePayment.objects.bulk_create(
        InvoicePayment(organization_id=pk, invoice=invoice, stripe_payment_intent_id=f"pi_{pk}")
        for pk, invoice in invoices.items()
    )
    with transaction.atomic():
        Purchase.objects.bulk_create(
            Purchase(
                organization=each,
                origin=Purchase.Origin.PERSON,
                way=Purchase.Way.CARD,
                currency="USD",
                amount_micros=FIFTY,
                state=Purchase.State.CREDITED,
                invoice=invoices[each.pk],
                grant=credits.grant(
                    organization=each, kind=Grant.Kind.PREPAID, micros=FIFTY, reference="paid", now=now
                ),
                asked_by=alice,
                asked_at=now,
            )
            for each in customers
        )
    return invoices


def invoice_all(organizations: list[Organization], now: datetime, **fields: Any) -> dict[int, Invoice]:
    """Give each an invoice over fifty dollars."""
    made = Invoice.objects.bulk_create(
        Invoice(
            organization=each,
            stripe_invoice_id=f"in_{each.pk}",
            currency="USD",
            subtotal_minor=5_000,
            total_minor=5_000,
            amount_due_minor=5_000,
            drafted_at=now,
            **fields,
        )
        for each in organizations
    )
    return {invoice.organization_id: invoice for invoice in made}


@racing.of("claims.receive_refund")
@racing.FEW_OR_ALL
def test_f01_f02_f38_two_partial_refunds_each_take_back_their_share_once(
    paid: dict[int, Invoice], customers: list[Organization], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two refunds of ten dollars, each told four times."""
    post = journal.post

    def post_later(*arguments: Any, **options: Any) -> Transaction:
        time.sleep(10 * racing.MOMENT)  # both refunds are rows by then, and neither is in the books
        return post(*arguments, **options)

    monkeypatch.setattr(journal, "post", post_later)

    def act(organization: Organization, number: int) -> Refund | None:
        return claims.receive_refund(refund_at_stripe(organization, number % 2, now), now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        assert answers == list(Refund.objects.filter(organization=organization).order_by("stripe_refund_id")) * 4
        assert credit_of(organization, now) == FIFTY - 20 * DOLLAR

    racing.prove(customers, act, law)


@racing.of("claims.follow")
@racing.FEW_OR_ALL
def test_i06_the_books_follow_a_refund_once(
    paid: dict[int, Invoice], customers: list[Organization], now: datetime
) -> None:
    Refund.objects.bulk_create(
        Refund(
            organization_id=pk,
            invoice=invoice,
            stripe_refund_id=f"re_{pk}",
            currency="USD",
            amount_minor=1_000,
            made_at=now,
        )
        for pk, invoice in paid.items()
    )

    def act(organization: Organization, _: int) -> None:
        claims.follow(paid[organization.pk], reason="Race", now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        assert answers == [None] * 8
        assert credit_of(organization, now) == FIFTY - 10 * DOLLAR

    racing.prove(customers, act, law)


@racing.of("claims.receive_chargeback")
@racing.FEW_OR_ALL
def test_f01_f03_i17_a_lost_chargeback_stays_lost_whichever_event_comes_last(
    paid: dict[int, Invoice], customers: list[Organization], now: datetime
) -> None:
    """It was an inquiry. That it is lost is told once, and seven times that it was opened."""
    with transaction.atomic():
        for each in customers:
            claims.receive_chargeback(chargeback_at_stripe(each, "warning_needs_response", now), now=now)

    def act(organization: Organization, number: int) -> Chargeback | None:
        status = "needs_response" if number else "lost"
        return claims.receive_chargeback(chargeback_at_stripe(organization, status, now), now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        chargeback = Chargeback.objects.get(organization=organization)
        assert answers == [chargeback] * 8
        assert (chargeback.state, chargeback.closed_at) == ("lost", now)
        assert credit_of(organization, now) == 0

    racing.prove(customers, act, law, last=lambda number: number > 0)


@racing.of("claims.receive_warning", "claims.dismiss")
@racing.FEW_OR_ALL
def test_i06_credit_that_was_held_for_a_warning_comes_back_once(
    paid: dict[int, Invoice],
    customers: list[Organization],
    alice: User,
    now: datetime,
    settings: Any,
) -> None:
    """Seven of the staff let it be while Stripe says that there is nothing left to do."""
    settings.FRAUD_WARNING_HOLDS_CREDIT = True
    with transaction.atomic():
        for each in customers:
            claims.receive_warning(warning_at_stripe(each, now, actionable=True), now=now)
            assert credit_of(each, now) == 0

    def act(organization: Organization, number: int) -> None:
        if number:
            warning = FraudWarning.objects.select_related("invoice").get(organization=organization)
            claims.dismiss(warning, by=alice, now=now)
        else:
            claims.receive_warning(warning_at_stripe(organization, now, actionable=False), now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        assert answers == [None] * 8
        assert FraudWarning.objects.get(organization=organization).state == FraudWarning.State.SETTLED
        assert credit_of(organization, now) == FIFTY
        assert Letter.objects.filter(organization=organization).count() == 1

    racing.prove(customers, act, law, last=lambda number: number > 0)


def refund_at_stripe(organization: Organization, number: int, now: datetime) -> dict[str, Any]:
    return {
        "id": f"re_{organization.pk}_{number}",
        "payment_intent": f"pi_{organization.pk}",
        "currency": "usd",
        "amount": 1_000,
        "status": "succeeded",
        "created": int(now.timestamp()),
    }


def chargeback_at_stripe(organization: Organization, status: str, now: datetime) -> dict[str, Any]:
    return {
        "id": f"du_{organization.pk}",
        "charge": f"ch_{organization.pk}",
        "payment_intent": f"pi_{organization.pk}",
        "currency": "usd",
        "amount": 5_000,
        "reason": "fraudulent",
        "status": status,
        "created": int(now.timestamp()),
    }


def warning_at_stripe(organization: Organization, now: datetime, *, actionable: bool) -> dict[str, Any]:
    return {
        "id": f"issfr_{organization.pk}",
        "charge": f"ch_{organization.pk}",
        "payment_intent": f"pi_{organization.pk}",
        "fraud_type": "made_with_stolen_card",
        "actionable": actionable,
        "created": int(now.timestamp()),
    }


# ── Credit notes ──────────────────────────────────────────────────────────────────────────────────────────────────────


@racing.of("credit_notes.ask")
@racing.FEW_OR_ALL
def test_i15_no_more_of_an_invoice_is_credited_than_it_billed(customers: list[Organization], now: datetime) -> None:
    """Two people want thirty of fifty dollars, and each sends it four times."""
    invoices = invoice_all(customers, now, month=OCTOBER, state=Invoice.State.OPEN)

    def act(organization: Organization, number: int) -> CreditNote:
        return ask(invoices[organization.pk], 30 * DOLLAR, f"note {number % 2}", now)

    def law(organization: Organization, answers: list[Any]) -> None:
        assert answers.count(CreditNote.objects.get(organization=organization)) == 4
        assert refusals(answers) == {credit_notes.AmountRefused: 4}

    racing.prove(customers, act, law)


@racing.of("credit_notes.retry", "credit_notes.ask")
@racing.FEW_OR_ALL
def test_i15_a_refused_note_is_made_after_all_or_another_in_its_place(
    customers: list[Organization], now: datetime
) -> None:
    """Four times the one that was refused is to be made after all, four times another; there is room for one."""
    invoices = invoice_all(customers, now, month=OCTOBER, state=Invoice.State.OPEN)
    with transaction.atomic():
        refused = {pk: ask(invoice, 30 * DOLLAR, "refused", now) for pk, invoice in invoices.items()}
    CreditNote.objects.update(state=State.REFUSED, due_at=None)

    def act(organization: Organization, number: int) -> CreditNote | None:
        if number % 2:
            return ask(invoices[organization.pk], 30 * DOLLAR, "another", now)
        # A row of its own: whoever retries reads the note into it.
        credit_notes.retry(CreditNote.objects.get(pk=refused[organization.pk].pk), now=now)
        return None

    def law(organization: Organization, answers: list[Any]) -> None:
        made = CreditNote.objects.get(organization=organization, state=State.ASKED)
        expected = None if made == refused[organization.pk] else made
        assert answers.count(expected) == 4
        assert refusals(answers) == {credit_notes.AmountRefused: 4}

    racing.prove(customers, act, law, last=lambda number: number % 2 == 0)


@racing.of("credit_notes.receive")
@racing.FEW_OR_ALL
def test_f01_f02_i13_two_credit_notes_each_lower_the_debt_once(customers: list[Organization], now: datetime) -> None:
    """Two notes made at Stripe, of one and of two dollars, each told four times."""
    racing.use(customers, 10, now=now)
    owed = Account.objects.get(organization=customers[0]).accrued_micros
    invoice_all(customers, now, month=OCTOBER, state=Invoice.State.OPEN)

    def act(organization: Organization, number: int) -> CreditNote:
        return credit_notes.receive(note_at_stripe(organization, number % 2, now), now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        notes = CreditNote.objects.filter(organization=organization).order_by("stripe_credit_note_id")
        assert answers == list(notes) * 4
        assert Transaction.objects.filter(organization=organization, kind="credit_note").count() == 2
        assert Account.objects.get(organization=organization).accrued_micros == owed - 3 * CENT

    racing.prove(customers, act, law)


def ask(invoice: Invoice, micros: int, reference: str, now: datetime) -> CreditNote:
    # The row is read anew under the lock, so each connection brings its own.
    found = Invoice.objects.select_related("organization").get(pk=invoice.pk)
    what: dict[str, Any] = {"reason": "Race", "reference": reference, "cause": CreditNote.Cause.STAFF}
    return credit_notes.ask(invoice=found, micros=micros, now=now, **what)


def note_at_stripe(organization: Organization, number: int, now: datetime) -> dict[str, Any]:
    cents = number + 1
    return {
        "id": f"cn_{organization.pk}_{number}",
        "invoice": f"in_{organization.pk}",
        "status": "issued",
        "total": cents,
        "pre_payment_amount": cents,
        "post_payment_amount": 0,
        "created": int(now.timestamp()),
    }


# ── Disputes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@racing.of("cases.open")
@racing.FEW_OR_ALL
def test_f27_f29_a_call_is_disputed_once_however_many_want_to(
    customers: list[Organization], alice: User, now: datetime
) -> None:
    """Four people, each sends the form twice."""
    racing.use(customers, 1, now=now)
    keys = {each.pk: [uuid.uuid4() for _ in range(4)] for each in customers}

    def act(organization: Organization, number: int) -> Dispute:
        return dispute(organization, alice, now, key=keys[organization.pk][number % 4])

    def law(organization: Organization, answers: list[Any]) -> None:
        opened = Dispute.objects.get(organization=organization)
        assert opened.messages.count() == 1
        assert answers.count(opened) == 2
        assert refusals(answers) == {cases.AlreadyOpen: 6}

    racing.prove(customers, act, law)


@racing.of("cases._lock")
@racing.FEW_OR_ALL
def test_i06_a_dispute_is_decided_once(customers: list[Organization], alice: User, now: datetime) -> None:
    """Four grant it, two reject it, and two times the customer withdraws it."""
    racing.use(customers, 1, now=now)
    with transaction.atomic():
        disputes = {each.pk: dispute(each, alice, now, key=uuid.uuid4()) for each in customers}

    def act(organization: Organization, number: int) -> str:
        subject = disputes[organization.pk]
        how: dict[str, Any] = {"by": alice, "now": now}
        if number % 2:
            return cases.grant(subject, micros=CENT, decision="Race", **how).state
        if number % 4:
            return cases.reject(subject, decision="Race", **how).state
        return cases.withdraw(subject, **how).state

    def law(organization: Organization, answers: list[Any]) -> None:
        decided = Dispute.objects.get(organization=organization)
        # Whoever withdraws again is told that it is withdrawn.
        times = 2 if decided.state == "withdrawn" else 1
        assert answers.count(decided.state) == times
        assert refusals(answers) == {cases.AlreadyDecided: 8 - times}
        assert credit_of(organization, now) == (CENT if decided.state == "granted" else 0)

    racing.prove(customers, act, law, sabotage=without_any_lock)


def without_any_lock(patch: pytest.MonkeyPatch) -> None:
    """A dispute's row is locked after the account's: that alone would do."""
    racing.without_the_lock(patch)
    looked_at = Dispute.objects.select_related("organization", "opened_by")
    patch.setattr(cases, "_lock", lambda subject, **_: looked_at.get(pk=subject.pk))


def dispute(organization: Organization, user: User, now: datetime, *, key: uuid.UUID) -> Dispute:
    return cases.open(
        organization=organization,
        kind=Dispute.Kind.CALL,
        reference="call_0",
        reason=Dispute.Reason.NEVER_HAPPENED,
        text="Nobody called.",
        claimed_micros=CENT,
        public_id=key,
        by=user,
        now=now,
    )
