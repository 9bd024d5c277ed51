"""What follows a failed payment: letters, each once at its time; usage stops by the clock and returns when paid."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.conf import settings
from django.core.cache import cache

from accounts.models import Letter, Organization
from billing_portal.billing import (
    attempts,
    charging,
    declines,
    gateway,
    inbox,
    interim_walk,
    invoices,
    overdue,
    overdue_walk,
)
from billing_portal.billing.models import InboxEvent, Invoice, Overdue, PaymentAttempt
from billing_portal.ledger import authorization
from billing_portal.ledger.models import Account
from tests.billing.world import MIDMONTH, save_card, use
from tests.stripe.conftest import RunningSandbox

Maker = Callable[..., Organization]
Told = Overdue.Told
LATER = MIDMONTH + timedelta(hours=12)
DAY = timedelta(days=1)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is queued: only what a test calls happens, as if the broker were away (F20)."""
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)


@pytest.fixture
def declined(stripe: RunningSandbox, limited: Maker, unhurried: None) -> Callable[..., Overdue]:
    """Return a maker of an invoice whose first payment was declined, of an organization that owes little more."""

    def make(code: str = "insufficient_funds", reference: str = "acme") -> Overdue:
        acme = limited(reference, billing_email=f"bills@{reference}.example")
        use(acme, 12, seed=1)
        stripe.faults(decline_next={"code": code, "count": 1})
        interim_walk.advance_waiting(now=LATER)
        return Overdue.objects.select_related("invoice").get(organization=acme)

    return make


def may_spend(found: Overdue, now: object) -> authorization.Authorization:
    return authorization.authorize(found.organization_id, now=now)


def sweep(now: object) -> None:
    overdue_walk.advance_waiting(now=now)


def subjects() -> list[str]:
    return list(Letter.objects.order_by("id").values_list("subject", flat=True))


def fail_again(found: Overdue, count: int, *, now: object) -> None:
    """Let Stripe tell of a further failed attempt, as its webhook would."""
    told = gateway.retrieve("invoices", found.invoice.stripe_invoice_id)
    invoices.receive({**told, "attempt_count": count}, now=now)


def test_each_step_is_told_once_at_its_time_however_often_the_sweep_runs(declined: Callable[..., Overdue]) -> None:
    found = declined()
    assert found.stops_at == LATER + settings.PAYMENT_GRACE
    written: dict[object, list[str]] = {}
    now = LATER
    while now < found.stops_at + 3 * DAY:
        if now == LATER + DAY:
            fail_again(found, 2, now=now)
        if now > LATER + DAY:
            fail_again(found, 1 + (now - LATER).days, now=now)
        before = len(subjects())
        sweep(now)
        sweep(now)
        if len(subjects()) > before:
            written[(now - LATER).days] = subjects()[before:]
        now += timedelta(hours=12)
    number = found.invoice.number
    assert {day: len(each) for day, each in written.items()} == {0: 1, 1: 1, 11: 1, 14: 1}
    assert f"Your card was not charged: invoice {number}" in written[0][0]
    assert f"Not charged again: invoice {number}" in written[1][0]
    assert "stops on" in written[11][0]
    assert f"is stopped: invoice {number}" in written[14][0]
    assert not may_spend(found, now).allowed
    charging.pay_now(found.invoice, key="form", now=now)
    assert may_spend(found, now).allowed
    sweep(now)
    sweep(now + DAY)
    assert subjects()[4:] == [f"Usage of Acme is back: invoice {number} is paid"]


def test_usage_stops_by_the_clock_alone_and_returns_with_the_payment(declined: Callable[..., Overdue]) -> None:
    found = declined()
    moment = timedelta(microseconds=1)
    assert may_spend(found, found.stops_at - moment).allowed
    refused = may_spend(found, found.stops_at)
    assert (refused.allowed, refused.reason, refused.available_micros) == (
        False,
        authorization.Reason.INVOICE_OVERDUE,
        0,
    )
    charging.pay_now(found.invoice, key="form", now=found.stops_at + DAY)
    assert may_spend(found, found.stops_at + DAY).allowed
    assert Account.objects.get(organization=found.organization_id).unpaid_stops_at is None


@pytest.mark.long
def test_who_sweeps_late_tells_how_things_are_and_not_what_they_went_through(declined: Callable[..., Overdue]) -> None:
    found = declined()
    sweep(found.stops_at + 30 * DAY)
    (subject,) = subjects()
    assert "is stopped" in subject


@pytest.mark.long
def test_a_payment_before_anything_was_told_is_not_told_either(declined: Callable[..., Overdue]) -> None:
    found = declined()
    charging.pay_now(found.invoice, key="form", now=LATER)
    sweep(LATER)
    assert subjects() == []
    found.refresh_from_db()
    assert found.told == Told.ENDED


@pytest.mark.long
def test_a_void_invoice_lets_usage_go_on_and_thanks_nobody(declined: Callable[..., Overdue]) -> None:
    found = declined()
    sweep(LATER)
    gateway.act("invoices", "void_invoice", found.invoice.stripe_invoice_id, {}, "void")
    invoices.receive(gateway.retrieve("invoices", found.invoice.stripe_invoice_id), now=found.stops_at)
    assert may_spend(found, found.stops_at).allowed
    sweep(found.stops_at)
    assert len(subjects()) == 1


def test_the_letter_says_why_what_stops_when_and_where_to_pay(declined: Callable[..., Overdue]) -> None:
    found = declined()
    sweep(LATER)
    (letter,) = Letter.objects.all()
    assert letter.to == "bills@acme.example"
    assert "There was not enough money on the card." in letter.text
    assert "It was Visa 4242." in letter.text
    assert "The card is tried again by itself on" in letter.text
    assert "Usage goes on until you owe $5.00, and then stops" in letter.text
    assert f"/invoices/{found.invoice.public_id}/payment/" in letter.text
    assert found.invoice.number in letter.subject


def test_a_letter_never_says_that_usage_goes_on_where_too_much_is_owed_already(
    declined: Callable[..., Overdue],
) -> None:
    found = declined()
    use(found.invoice.organization, 12, seed=2)
    assert may_spend(found, LATER).reason == authorization.Reason.ARREARS_LIMIT
    sweep(LATER)
    fail_again(found, 2, now=LATER)
    sweep(LATER)
    sweep(found.stops_at - DAY)
    for letter in Letter.objects.order_by("id"):
        assert "and $5.00 may be owed at most" in letter.text
        assert "goes on until" not in letter.text + letter.html
    assert subjects()[2] == f"Usage of Acme is stopped: invoice {found.invoice.number} is not paid"


def test_a_code_that_we_do_not_know_is_told_in_general_words(
    declined: Callable[..., Overdue], monkeypatch: pytest.MonkeyPatch
) -> None:
    declined("insufficient_funds")
    monkeypatch.setattr(declines, "TABLE", {})
    sweep(LATER)
    (letter,) = Letter.objects.all()
    assert "Your bank declined the payment and did not say why. Ask your bank to allow it" in letter.text
    assert "insufficient_funds" not in letter.text


@pytest.mark.parametrize("code", ["lost_card", "stolen_card", "fraudulent", "pickup_card", "merchant_blacklist"])
def test_what_stripe_asks_not_to_tell_is_not_told(code: str) -> None:
    decline = declines.of(code="card_declined", decline_code=code)
    assert decline.reason == "Your bank declined the payment."
    assert not decline.may_recover


def test_every_decline_says_why_and_what_to_do() -> None:
    for decline in {*declines.TABLE.values(), declines.GENERAL, declines.NO_CARD, declines.BLOCKED, declines.PREPAID}:
        assert decline.reason.endswith(".")
        assert decline.todo.endswith((".", ")."))
        assert not (decline.asks_owner and decline.may_recover)


def test_f34_what_the_owner_has_to_confirm_is_a_link_by_mail_and_no_retry_storm(
    stripe: RunningSandbox, declined: Callable[..., Overdue]
) -> None:
    found = declined("authentication_required")
    for hour in range(5):
        cache.clear()
        interim_walk.advance_waiting(now=LATER + timedelta(hours=hour))
        sweep(LATER + timedelta(hours=hour))
    found.refresh_from_db()
    assert found.asks_owner
    (letter,) = Letter.objects.all()
    assert letter.subject.startswith("Confirm the payment of invoice")
    assert found.invoice.hosted_invoice_url in letter.text
    assert "tried again by itself on" not in letter.text
    assert "charge" not in stripe.dump()["objects"]
    intent = stripe.dump()["objects"]["payment_intent"][0]
    stripe.control.post("/_sandbox/authenticate", json={"intent": intent["id"], "outcome": "succeed"})
    invoices.receive(gateway.retrieve("invoices", found.invoice.stripe_invoice_id), now=LATER)
    found.refresh_from_db()
    assert (found.asks_owner, found.ended_at) == (False, LATER)


def test_f35_a_declined_card_is_paid_with_another_one(stripe: RunningSandbox, declined: Callable[..., Overdue]) -> None:
    found = declined("expired_card")
    other = save_card(found.invoice.organization, "pm_card_mastercard", now=LATER)
    stripe.faults(decline_next={"code": "expired_card", "count": 1})
    with pytest.raises(charging.PaymentRefused) as refused:
        charging.pay_now(found.invoice, key="form", now=LATER)
    assert refused.value.decline.reason == "The card has expired."
    assert charging.pay_now(found.invoice, key="form", method=other, now=LATER).state == Invoice.State.PAID


def test_of_two_declines_within_a_second_the_later_is_told(
    stripe: RunningSandbox, declined: Callable[..., Overdue]
) -> None:
    found = declined()
    stripe.advance_to(stripe.timestamp() + 1)
    for code in ("expired_card", "processing_error"):
        stripe.faults(decline_next={"code": code, "count": 1})
        with pytest.raises(charging.PaymentRefused):
            charging.pay_now(found.invoice, key=code, now=LATER)
    attempts.read(found.invoice)
    newest, before, _ = PaymentAttempt.objects.filter(invoice=found.invoice)
    assert (newest.failure_code, before.failure_code) == ("processing_error", "expired_card")


@pytest.mark.long
def test_f24_one_that_cannot_go_on_keeps_no_other_from_it(
    declined: Callable[..., Overdue], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = declined(), declined(reference="other")
    read = attempts.read

    def fail_first(invoice: Invoice) -> bool:
        if invoice.pk == broken.invoice_id:
            raise RuntimeError("broken")
        return read(invoice)

    monkeypatch.setattr(attempts, "read", fail_first)
    sweep(LATER)
    assert [letter.organization_id for letter in Letter.objects.all()] == [sound.organization_id]


@pytest.mark.long
def test_while_stripe_is_away_a_decline_waits_but_what_stops_is_told_in_time(
    stripe: RunningSandbox, declined: Callable[..., Overdue]
) -> None:
    found = declined()
    away = {"status": 500, "path": "/v1/invoice_payments", "method": "GET", "count": 9}
    stripe.faults(fail_next=away)
    sweep(LATER)
    assert subjects() == []
    sweep(found.stops_at - 2 * DAY)
    assert "stops on" in subjects()[0]


@pytest.mark.parametrize("order", [["charge.failed", "charge.succeeded"], ["charge.succeeded", "charge.failed"]])
def test_f01_f03_attempts_are_kept_once_in_any_order(
    stripe: RunningSandbox, declined: Callable[..., Overdue], order: list[str]
) -> None:
    found = declined()
    charging.pay_now(found.invoice, key="form", now=LATER)
    events = [event for event in stripe.dump()["events"] if event["type"] in order]
    for event in sorted(events, key=lambda event: order.index(event["type"])):
        inbox.record(event)
    inbox.handle_waiting(now=LATER)
    inbox.handle_waiting(now=LATER)
    assert set(InboxEvent.objects.values_list("state", flat=True)) == {InboxEvent.State.DONE}
    kept = PaymentAttempt.objects.order_by("id")
    assert sorted(each.state for each in kept) == ["failed", "succeeded"]
    assert {each.invoice_id for each in kept} == {found.invoice_id}
    assert kept.get(state="failed").decline_code == "insufficient_funds"
    assert kept.get(state="succeeded").risk_level == "normal"


@pytest.mark.long
def test_more_time_moves_the_day_and_is_announced_again(declined: Callable[..., Overdue]) -> None:
    found = declined()
    sweep(found.stops_at)
    overdue.give_time(found.invoice, until=found.stops_at + 10 * DAY)
    assert may_spend(found, found.stops_at + 9 * DAY).allowed
    assert not may_spend(found, found.stops_at + 10 * DAY).allowed
    sweep(found.stops_at + DAY)
    assert len(subjects()) == 1
    sweep(found.stops_at + 8 * DAY)
    sweep(found.stops_at + 11 * DAY)
    assert ["stops on" in subjects()[1], "is stopped" in subjects()[2]] == [True, True]


def test_the_account_knows_the_first_deadline_and_is_mended_if_it_does_not(declined: Callable[..., Overdue]) -> None:
    found = declined()
    assert not overdue.misstated().exists()
    Account.objects.filter(organization=found.organization_id).update(unpaid_stops_at=None)
    assert overdue.mend() == 1
    assert Account.objects.get(organization=found.organization_id).unpaid_stops_at == found.stops_at
    assert overdue.mend() == 0
