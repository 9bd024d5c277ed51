"""Automatic top-ups: bought in time, one at a time, never in a storm, and given exactly when paid."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import IntegrityError, connection, transaction

from accounts.models import Letter, Organization
from billing_portal.billing import (
    inbox,
    purchase_payment,
    purchase_tasks,
    purchases,
    top_up_orders,
    top_ups,
)
from billing_portal.billing.models import Intent, Invoice, Purchase, TopUp
from billing_portal.ledger import accounts, credits, settlement, verification
from billing_portal.ledger import tasks as ledger_tasks
from billing_portal.ledger.models import Grant
from tests.billing.world import MIDMONTH, Buyer, load_prices, record_calls, save_card
from tests.stripe.conftest import RunningSandbox

MakeBuyer = Callable[..., Buyer]
TWENTY, FIFTY, TWO_HUNDRED = 20_000_000, 50_000_000, 200_000_000


def switch_on(acme: Buyer, **changes: int) -> TopUp:
    amounts = {"threshold_micros": TWENTY, "amount_micros": FIFTY, "ceiling_micros": TWO_HUNDRED}
    return top_ups.switch_on(organization=acme.organization, user=acme.owner, now=MIDMONTH, **amounts | changes)


def give(acme: Buyer, micros: int, reference: str = "welcome") -> None:
    credits.grant(
        organization=acme.organization, kind=Grant.Kind.WELCOME, micros=micros, reference=reference, now=MIDMONTH
    )


def top_up(acme: Buyer, now: datetime = MIDMONTH) -> Purchase | None:
    """Check, and walk what is due."""
    purchase = top_ups.check(acme.organization.pk, now=now)
    if purchase is not None:
        purchase_payment.advance(purchase, now=now)
    return purchase


def paid_charges(stripe: RunningSandbox) -> list[dict[str, Any]]:
    return [each for each in stripe.dump()["objects"].get("charge", []) if each["paid"]]


def letters() -> list[str]:
    return [message.subject for message in mail.outbox]


def assert_sound(acme: Buyer, stripe: RunningSandbox) -> None:
    credited = Purchase.objects.filter(state="credited").count()
    assert Grant.objects.filter(kind="prepaid").count() == credited == len(paid_charges(stripe))
    assert list(verification.verify(acme.organization.pk)) == []


# ── When ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_credit_below_the_threshold_is_topped_up(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    give(acme, TWENTY - 1)
    order = switch_on(acme)
    purchase = top_up(acme)
    assert purchase is not None
    assert (purchase.state, purchase.origin, purchase.top_up) == ("credited", "top_up", order)
    assert acme.credit_micros == TWENTY - 1 + FIFTY
    assert top_up(acme) is None
    assert letters() == ["$50.00 of credit bought automatically"]
    assert "charged to Visa 4242" in str(mail.outbox[0].body)
    assert_sound(acme, stripe)


def test_credit_at_the_threshold_is_left_alone(buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    give(acme, TWENTY)
    assert top_up(acme) is None  # nothing is ordered
    switch_on(acme)
    assert top_up(acme) is None
    assert not Purchase.objects.exists()


def test_fast_use_tops_up_long_before_the_threshold(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    load_prices()
    give(acme, FIFTY)
    switch_on(acme, threshold_micros=0)
    assert top_up(acme) is None
    record_calls(acme.organization, 60, starts_at=MIDMONTH, now=MIDMONTH + timedelta(days=1))
    settlement.settle_all(acme.organization.pk, now=MIDMONTH + timedelta(hours=1))
    used = FIFTY - acme.credit_micros
    now = MIDMONTH + timedelta(minutes=59)
    expected = top_ups.expected_micros(acme.organization.pk, now=now)
    assert used * 2 // 3 < expected < used * 3 // 2
    _leave(acme, expected)
    assert top_up(acme, now=now) is None
    _leave(acme, expected - 1)
    purchase = top_up(acme, now=now)
    assert purchase is not None
    assert purchase.state == "credited"


def test_a_burst_is_judged_by_its_pace(buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    load_prices()
    record_calls(acme.organization, 20, starts_at=MIDMONTH, now=MIDMONTH + timedelta(days=1))
    settlement.settle_all(acme.organization.pk, now=MIDMONTH)
    burst = top_ups.expected_micros(acme.organization.pk, now=MIDMONTH + timedelta(hours=5))
    assert burst == 0
    after_half = top_ups.expected_micros(acme.organization.pk, now=MIDMONTH.replace(minute=40))
    at_its_end = top_ups.expected_micros(acme.organization.pk, now=MIDMONTH.replace(hour=10, minute=0))
    assert after_half == at_its_end * 60 // 40


def _leave(acme: Buyer, micros: int) -> None:
    """Leave so much credit: the rest expires, and is given anew."""
    for grant in Grant.objects.filter(remaining_micros__gt=0):
        Grant.objects.filter(pk=grant.pk).update(expires_at=MIDMONTH)
    credits.expire(acme.organization.pk, now=MIDMONTH)
    give(acme, micros, reference=f"leave:{micros}")


@pytest.mark.parametrize("ago", [timedelta(hours=24), timedelta(days=7)])
def test_the_same_hour_of_another_day_is_expected_again(buyer: MakeBuyer, ago: timedelta) -> None:
    acme = buyer("acme")
    load_prices()
    record_calls(acme.organization, 30, starts_at=MIDMONTH - timedelta(days=8), now=MIDMONTH + timedelta(days=1))
    settlement.settle_all(acme.organization.pk, now=MIDMONTH)
    at = MIDMONTH - timedelta(days=8) + ago
    assert top_ups.expected_micros(acme.organization.pk, now=at) > 0
    assert top_ups.expected_micros(acme.organization.pk, now=at + timedelta(hours=3)) == 0


def test_a_settlement_has_the_standing_order_checked(
    stripe: RunningSandbox, buyer: MakeBuyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = buyer("acme")
    load_prices()
    give(acme, TWENTY)
    switch_on(acme)
    checked: list[int] = []
    monkeypatch.setattr(purchase_tasks.check_top_up, "apply_async", lambda args, **_: checked.append(*args))
    monkeypatch.setattr(ledger_tasks, "ask_to_settle", lambda organization_id: None)
    monkeypatch.setattr("accounts.clock.now", lambda: MIDMONTH + timedelta(days=1))
    record_calls(acme.organization, 5, starts_at=MIDMONTH, now=MIDMONTH + timedelta(days=1))
    ledger_tasks.settle_organization(acme.organization.pk)
    assert checked == [acme.organization.pk]
    purchase_tasks.check_top_up(acme.organization.pk)
    assert Purchase.objects.get().state == "credited"
    assert_sound(acme, stripe)


def test_f20_the_sweep_finds_what_the_broker_lost(
    stripe: RunningSandbox, buyer: MakeBuyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme, other = buyer("acme"), buyer("other")
    for each in (acme, other):
        switch_on(each)
    monkeypatch.setattr("accounts.clock.now", lambda: MIDMONTH)
    monkeypatch.setattr("accounts.queueing.send", lambda task, *args, **_: False)
    purchase_tasks.check_top_ups()
    assert list(Purchase.objects.values_list("state", flat=True)) == ["asked", "asked"]
    purchase_tasks.advance_purchases()
    assert list(Purchase.objects.values_list("state", flat=True)) == ["credited", "credited"]
    assert len(paid_charges(stripe)) == 2


# ── Only one ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_f36_f23_eight_schedulers_at_once_ask_for_one(buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    switch_on(acme)
    start = threading.Barrier(8)
    found: list[Purchase | None] = []

    def work() -> None:
        start.wait()
        try:
            found.append(top_ups.check(acme.organization.pk, now=MIDMONTH))
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([each for each in found if each is not None]) == 1
    assert Purchase.objects.count() == 1


def test_f36_the_database_keeps_one_open_whatever_its_amount(buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    order = switch_on(acme)
    first = purchases.ask_for_top_up(order, now=MIDMONTH)
    order.amount_micros = 2 * FIFTY
    with pytest.raises(IntegrityError), transaction.atomic():
        purchases.ask_for_top_up(order, now=MIDMONTH)
    Purchase.objects.filter(pk=first.pk).update(state="canceled")
    assert purchases.ask_for_top_up(order, now=MIDMONTH).pk


def test_what_is_paid_and_not_credited_yet_is_not_bought_again(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    purchase = purchases.ask_for_top_up(switch_on(acme), now=MIDMONTH)
    Purchase.objects.filter(pk=purchase.pk).update(state="paid")
    assert top_ups.check(acme.organization.pk, now=MIDMONTH) is None


def test_the_ceiling_of_the_month_holds_and_is_told_once(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    switch_on(acme, threshold_micros=500_000_000, ceiling_micros=2 * FIFTY + 1)
    for hour in range(5):
        top_up(acme, now=MIDMONTH + timedelta(hours=hour))
    assert Purchase.objects.filter(state="credited").count() == 2
    assert letters().count("Automatic top-up has reached its ceiling of this month") == 1
    next_month = top_up(acme, now=MIDMONTH + timedelta(days=25))
    assert next_month is not None
    assert_sound(acme, stripe)


@pytest.mark.parametrize("reason", ["suspended", "no card", "frozen", "switched off"])
def test_nothing_is_bought_when_it_must_not_be(buyer: MakeBuyer, reason: str) -> None:
    acme = buyer("acme")
    switch_on(acme)
    if reason == "suspended":
        Organization.objects.update(status="suspended")
    if reason == "no card":
        acme.organization.payment_methods.update(removed_at=MIDMONTH, is_default=False)
    if reason == "frozen":
        accounts.freeze(acme.organization.pk, reason="a test", now=MIDMONTH)
    if reason == "switched off":
        top_ups.switch_off(organization=acme.organization, user=acme.owner, now=MIDMONTH)
    assert top_ups.check_safely(acme.organization.pk, now=MIDMONTH) is None
    assert not Purchase.objects.exists()


def test_a_frozen_account_is_not_charged_for_what_was_asked_before(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    purchase = purchases.ask_for_top_up(switch_on(acme), now=MIDMONTH)
    accounts.freeze(acme.organization.pk, reason="a test", now=MIDMONTH)
    purchase_payment.advance(purchase, now=MIDMONTH)
    assert paid_charges(stripe) == []
    accounts.unfreeze(acme.organization.pk)
    assert purchase_payment.advance_waiting(now=MIDMONTH + timedelta(minutes=2)) == 1
    assert_sound(acme, stripe)


# ── Not paid ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_f35_declines_are_tried_thrice_again_then_it_is_switched_off_with_notice(
    stripe: RunningSandbox, buyer: MakeBuyer
) -> None:
    acme = buyer("acme", card="pm_card_chargeCustomerFail")
    switch_on(acme)
    purchase = top_up(acme)
    assert purchase is not None
    tried = []
    for hour in range(60):
        now = MIDMONTH + timedelta(hours=hour)
        purchase_payment.advance_waiting(now=now)
        top_up(acme, now=now)
        if Intent.objects.filter(verb="pay purchase").count() > len(tried):
            tried.append(hour)
    purchase.refresh_from_db()
    assert tried == [0, 1, 9, 33]
    assert (purchase.state, purchase.declines, Invoice.objects.get().state) == ("failed", 4, "void")
    order = TopUp.objects.get()
    assert order.ended_reason == "Your card was declined."
    assert Purchase.objects.count() == 1
    assert letters() == ["Automatic top-up is switched off"]
    assert "Your card was declined." in str(mail.outbox[0].body)
    assert_sound(acme, stripe)


@pytest.mark.parametrize("code", ["expired_card", pytest.param("lost_card", marks=pytest.mark.long)])
def test_f35_a_card_that_expired_or_was_lost_is_not_tried_again(
    stripe: RunningSandbox, buyer: MakeBuyer, code: str
) -> None:
    acme = buyer("acme")
    switch_on(acme)
    stripe.faults(decline_next={"code": code})
    purchase = top_up(acme)
    assert purchase is not None
    assert (purchase.state, purchase.attempts, top_up_orders.in_force(acme.organization)) == ("failed", 1, None)
    assert letters() == ["Automatic top-up is switched off"]


def test_f44_a_retry_charges_the_card_that_is_the_default_by_then(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme", card="pm_card_chargeCustomerFail")
    switch_on(acme)
    purchase = top_up(acme)
    assert purchase is not None
    assert (purchase.state, purchase.declines) == ("paying", 1)
    new = save_card(acme.organization, "pm_card_mastercard", now=MIDMONTH)
    assert purchase_payment.advance_waiting(now=MIDMONTH + timedelta(hours=1)) == 1
    purchase.refresh_from_db()
    assert (purchase.state, purchase.payment_method) == ("credited", new)
    assert_sound(acme, stripe)


def test_f44_an_attempt_cut_short_goes_on_with_its_own_card(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    switch_on(acme)
    stripe.faults(fail_next={"when": "before", "status": 500, "path": "/pay"})
    purchase = top_up(acme)
    assert purchase is not None
    save_card(acme.organization, "pm_card_mastercard", now=MIDMONTH)
    assert purchase_payment.advance_waiting(now=MIDMONTH + timedelta(hours=1)) == 1
    purchase.refresh_from_db()
    assert (purchase.state, purchase.payment_method) == ("credited", acme.card)


def test_f34_a_bank_that_asks_gets_no_storm_but_a_person_a_link(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme", card="pm_card_authenticationRequired")
    switch_on(acme)
    purchase = top_up(acme)
    assert purchase is not None
    assert (purchase.state, acme.credit_micros) == ("needs_action", 0)
    for hour in range(20):
        now = MIDMONTH + timedelta(hours=hour)
        purchase_payment.advance_waiting(now=now)
        assert top_up(acme, now=now) is None
    assert Intent.objects.filter(verb="pay purchase").count() == 1
    assert letters() == ["Confirm a payment of $50.00 with your bank"]
    assert purchase.invoice is not None
    assert purchase.invoice.hosted_invoice_url in str(mail.outbox[0].body)
    # Nobody does: it ends, and so does the order, so that no letter comes every day.
    assert purchase_payment.advance_waiting(now=MIDMONTH + timedelta(hours=25)) == 1
    purchase.refresh_from_db()
    assert (purchase.state, top_up_orders.in_force(acme.organization)) == ("failed", None)
    assert letters()[1:] == ["Automatic top-up is switched off"]
    assert_sound(acme, stripe)


def test_f34_confirmed_on_stripes_page_it_is_credited(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme", card="pm_card_authenticationRequired")
    switch_on(acme)
    purchase = top_up(acme)
    assert purchase is not None
    intent = stripe.dump()["objects"]["payment_intent"][0]
    paid = {"payment_method": "pm_card_visa", "return_url": "https://portal.example/"}
    stripe.client.v1.payment_intents.confirm(intent["id"], paid)
    inbox.catch_up(MIDMONTH + timedelta(hours=1))
    inbox.handle_waiting(now=MIDMONTH + timedelta(hours=1))
    purchase.refresh_from_db()
    assert purchase.state == "credited"
    assert top_up_orders.in_force(acme.organization) is not None
    assert_sound(acme, stripe)


def test_without_a_card_at_its_hour_it_ends_and_says_so(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    purchase = purchases.ask_for_top_up(switch_on(acme), now=MIDMONTH)
    acme.organization.payment_methods.update(removed_at=MIDMONTH, is_default=False)
    assert purchase_payment.advance(purchase, now=MIDMONTH)
    assert (purchase.state, purchase.failure) == ("failed", "No card is saved.")
    assert Letter.objects.count() == 1


# ── Ordering ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_change_is_a_new_order_and_the_same_again_is_none(buyer: MakeBuyer) -> None:
    acme = buyer("acme")
    first = switch_on(acme)
    assert switch_on(acme) == first
    second = switch_on(acme, amount_micros=2 * FIFTY)
    first.refresh_from_db()
    assert (first.ended_at, first.ended_by, first.ended_reason) == (MIDMONTH, acme.owner, "Replaced.")
    assert top_up_orders.in_force(acme.organization) == second
    assert acme.organization.name in second.mandate_text


def test_switching_off_gives_up_what_is_not_paid(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme", card="pm_card_chargeCustomerFail")
    switch_on(acme)
    purchase = top_up(acme)
    assert purchase is not None
    top_ups.switch_off(organization=acme.organization, user=acme.owner, now=MIDMONTH)
    assert purchase_payment.advance_waiting(now=MIDMONTH) == 1
    purchase.refresh_from_db()
    assert (purchase.state, Invoice.objects.get().state) == ("canceled", "void")
    assert letters() == []
    top_ups.switch_off(organization=acme.organization, user=acme.owner, now=MIDMONTH)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"amount_micros": 0}, purchases.AmountRefused),
        ({"amount_micros": FIFTY + 1}, purchases.AmountRefused),
        ({"amount_micros": -FIFTY}, purchases.AmountRefused),
        ({"threshold_micros": -1}, top_ups.ThresholdRefused),
        ({"threshold_micros": 10**15}, top_ups.ThresholdRefused),
        ({"ceiling_micros": FIFTY - 1}, top_ups.CeilingTooLow),
    ],
)
def test_terms_that_make_no_sense_are_refused(
    buyer: MakeBuyer, changes: dict[str, int], error: type[Exception]
) -> None:
    acme = buyer("acme")
    with pytest.raises(error):
        switch_on(acme, **changes)
    assert not TopUp.objects.exists()


def test_without_a_card_nothing_can_be_ordered(buyer: MakeBuyer) -> None:
    acme = buyer("acme", card=None)
    with pytest.raises(purchases.CardNeeded):
        switch_on(acme)
