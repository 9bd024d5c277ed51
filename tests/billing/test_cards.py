"""Cards: entered on Stripe's form, taken over from what Stripe says, whoever hears of it first."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.conf import settings as project_settings
from django.db import connection

from accounts.models import Organization, User
from billing_portal.billing import card_limits, cards, charging, customers, declines, gateway, inbox, mandates
from billing_portal.billing.models import CardSetup, Customer, InboxEvent, Invoice, PaymentMethod
from billing_portal.ledger import accounts
from billing_portal.ledger.models import Entry, Transaction
from tests.billing.world import MIDMONTH
from tests.stripe.conftest import RunningSandbox

VISA = "4242424242424242"
MASTERCARD = "5555555555554444"
PREPAID = "5105105105105100"
Save = Callable[..., PaymentMethod]


@pytest.fixture
def enter(stripe: RunningSandbox, acme: Organization, alice: User) -> Callable[..., CardSetup]:
    """Enter a card as the browser does, up to Stripe's answer."""

    def enter(number: str = VISA, organization: Organization = acme) -> CardSetup:
        started = cards.start(organization, alice, now=MIDMONTH)
        cards.accept_mandate(started.setup, alice, now=MIDMONTH)
        confirm(stripe, started, number)
        return started.setup

    return enter


@pytest.fixture
def save(enter: Callable[..., CardSetup]) -> Save:
    def save(number: str = VISA) -> PaymentMethod:
        return cards.finish(enter(number).stripe_setup_intent_id, now=MIDMONTH)

    return save


def confirm(stripe: RunningSandbox, started: cards.Started, number: str) -> int:
    """Send the form, with a publishable key; return the HTTP status."""
    params = {
        "client_secret": started.client_secret,
        "return_url": "http://127.0.0.1/back",
        "payment_method_data[type]": "card",
        "payment_method_data[card][number]": number,
        "payment_method_data[card][exp_month]": "12",
        "payment_method_data[card][exp_year]": "2034",
        "payment_method_data[card][cvc]": "123",
    }
    path = f"/v1/setup_intents/{started.setup.stripe_setup_intent_id}/confirm"
    return stripe.browser("POST", path, params).status_code


def default_at_stripe(organization: Organization) -> str | None:
    customer = Customer.objects.get(organization=organization)
    return gateway.retrieve("customers", customer.stripe_customer_id)["invoice_settings"]["default_payment_method"]


def attached_at_stripe(organization: Organization) -> list[str]:
    customer = Customer.objects.get(organization=organization)
    return [m["id"] for m in gateway.list_all("payment_methods", {"customer": customer.stripe_customer_id})]


def handle_events() -> None:
    """Deliver all of Stripe's events and handle them."""
    inbox.catch_up(MIDMONTH + timedelta(hours=1))
    inbox.handle_waiting(now=MIDMONTH + timedelta(hours=1))
    failed = InboxEvent.objects.exclude(reason="").values_list("type", "reason")
    assert not failed, list(failed)


def owe(organization: Organization, micros: int) -> None:
    accounts.open(organization=organization, now=MIDMONTH)
    transaction = Transaction.objects.create(
        organization=organization, kind="settle", reference="usage", occurred_at=MIDMONTH
    )
    common = {"organization": organization, "transaction": transaction}
    rows = [Entry(book=Entry.Book.RECEIVABLE, micros=-micros, **common), Entry(book="usage", micros=micros, **common)]
    Entry.objects.bulk_create(rows)


# Starting


def test_an_entry_saves_for_off_session_charges_with_every_automatic_method(
    stripe: RunningSandbox, acme: Organization, alice: User
) -> None:
    started = cards.start(acme, alice, now=MIDMONTH)
    intent = gateway.retrieve("setup_intents", started.setup.stripe_setup_intent_id)
    assert intent["usage"] == "off_session"
    assert intent["automatic_payment_methods"]["enabled"]
    assert "link" in intent["payment_method_types"]
    assert intent["customer"] == Customer.objects.get(organization=acme).stripe_customer_id
    assert started.client_secret == intent["client_secret"]
    assert started.customer_session_client_secret


def test_f29_two_tabs_share_one_open_entry(stripe: RunningSandbox, acme: Organization, alice: User) -> None:
    first, second = (cards.start(acme, alice, now=MIDMONTH) for _ in range(2))
    assert first.setup == second.setup
    assert first.client_secret == second.client_secret


def test_f29_two_tabs_at_once_share_one_entry(stripe: RunningSandbox, acme: Organization, alice: User) -> None:
    customers.ensure(acme, now=MIDMONTH)

    def start(_: int) -> str:
        try:
            return cards.start(acme, alice, now=MIDMONTH).setup.stripe_setup_intent_id
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(start, range(4)))) == 1


def test_f29_a_tab_that_looked_before_the_other_had_begun_shares_its_entry(
    stripe: RunningSandbox, acme: Organization, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second looks, finds nothing, and goes on only when the first is through."""
    begun: list[str] = []
    look = cards._open_setup

    def look_and_wait(organization: Organization, now: datetime) -> Any:
        found = look(organization, now)
        if not begun:
            begun.append("")
            begun[0] = cards.start(acme, alice, now=MIDMONTH).setup.stripe_setup_intent_id
        return found

    monkeypatch.setattr(cards, "_open_setup", look_and_wait)
    assert cards.start(acme, alice, now=MIDMONTH).setup.stripe_setup_intent_id == begun[0]
    assert CardSetup.objects.count() == 1


def test_a_finished_entry_is_followed_by_a_fresh_one(save: Save, acme: Organization, alice: User) -> None:
    save()
    assert cards.start(acme, alice, now=MIDMONTH).setup.finished_at is None
    assert CardSetup.objects.count() == 2


def test_card_testing_is_stopped_within_an_hour(stripe: RunningSandbox, acme: Organization, alice: User) -> None:
    for _ in range(project_settings.CARD_SETUPS_PER_ORGANIZATION):
        cards.start(acme, alice, now=MIDMONTH)
        CardSetup.objects.update(finished_at=MIDMONTH)
    with pytest.raises(card_limits.TooManySetups):
        cards.start(acme, alice, now=MIDMONTH)
    assert cards.start(acme, alice, now=MIDMONTH + timedelta(hours=1)).setup.pk


def test_card_testing_from_one_address_is_stopped_over_all_organizations(
    acme: Organization, other: Organization, settings: LazySettings
) -> None:
    settings.CARD_SETUPS_PER_ADDRESS = 2
    for number in range(2):
        CardSetup.objects.create(
            organization=acme,
            stripe_setup_intent_id=f"seti_{number}",
            address_mark=card_limits.mark_of("192.0.2.7"),
            created_at=MIDMONTH,
        )
    with pytest.raises(card_limits.TooManySetups):
        card_limits.check(other, address="192.0.2.7", now=MIDMONTH)
    card_limits.check(other, address="192.0.2.8", now=MIDMONTH)
    card_limits.check(other, address="", now=MIDMONTH)
    card_limits.check(other, address="192.0.2.7", now=MIDMONTH + timedelta(hours=1))
    assert "192.0.2.7" not in str(list(CardSetup.objects.values()))


def test_one_card_is_not_entered_for_one_organization_after_another(
    enter: Callable[..., CardSetup], acme: Organization, other: Organization, settings: LazySettings
) -> None:
    settings.CARD_SETUPS_PER_CARD = 1
    assert cards.finish(enter().stripe_setup_intent_id, now=MIDMONTH).pk
    second = enter(organization=other)
    for _ in range(2):
        with pytest.raises(cards.CardRefused, match="entered too often today"):
            cards.finish(second.stripe_setup_intent_id, now=MIDMONTH)
    assert not cards.has_usable_card(other)
    assert cards.has_usable_card(acme)


def test_a_prepaid_card_that_got_in_elsewhere_is_not_charged(save: Save, acme: Organization) -> None:
    method = save()
    PaymentMethod.objects.filter(pk=method.pk).update(funding="prepaid")
    invoice = Invoice(organization=acme, state=Invoice.State.OPEN, stripe_invoice_id="in_none")
    with pytest.raises(charging.PaymentRefused) as refused:
        charging.pay_now(invoice, key="form", method=method, now=MIDMONTH)
    assert refused.value.decline == declines.PREPAID
    assert attached_at_stripe(acme) == []
    assert not cards.has_usable_card(acme)


# Finishing


def test_the_first_card_is_the_default_here_and_at_stripe(save: Save, acme: Organization, alice: User) -> None:
    assert not cards.has_usable_card(acme)
    method = save()
    assert (method.kind, method.brand, method.last4) == ("card", "visa", "4242")
    assert (method.expires_month, method.expires_year, method.funding) == (12, 2034, "credit")
    assert method.is_default
    assert cards.has_usable_card(acme)
    assert default_at_stripe(acme) == method.stripe_payment_method_id


def test_the_accepted_mandate_is_kept_with_the_card(save: Save, acme: Organization, alice: User) -> None:
    method = save()
    assert method.mandate_version == mandates.VERSION
    assert method.mandate_text == mandates.text_for(acme.name)
    assert (method.mandate_accepted_at, method.mandate_accepted_by) == (MIDMONTH, alice)


def test_a_card_without_an_accepted_mandate_is_not_taken(
    stripe: RunningSandbox, acme: Organization, alice: User
) -> None:
    started = cards.start(acme, alice, now=MIDMONTH)
    confirm(stripe, started, VISA)
    with pytest.raises(cards.MandateMissing):
        cards.finish(started.setup.stripe_setup_intent_id, now=MIDMONTH)
    assert not PaymentMethod.objects.exists()


def test_a_second_card_leaves_the_default_as_it_is(save: Save, acme: Organization) -> None:
    first, second = save(VISA), save(MASTERCARD)
    assert not second.is_default
    assert default_at_stripe(acme) == first.stripe_payment_method_id


def test_an_entry_that_was_not_confirmed_is_pending_whatever_the_browser_says(
    stripe: RunningSandbox, acme: Organization, alice: User
) -> None:
    started = cards.start(acme, alice, now=MIDMONTH)
    cards.accept_mandate(started.setup, alice, now=MIDMONTH)
    with pytest.raises(cards.SetupPending):
        cards.finish(started.setup.stripe_setup_intent_id, now=MIDMONTH)


def test_a_declined_card_says_why(stripe: RunningSandbox, acme: Organization, alice: User) -> None:
    started = cards.start(acme, alice, now=MIDMONTH)
    cards.accept_mandate(started.setup, alice, now=MIDMONTH)
    assert confirm(stripe, started, "4000000000009995") == 402
    with pytest.raises(cards.SetupDeclined, match="insufficient funds"):
        cards.finish(started.setup.stripe_setup_intent_id, now=MIDMONTH)


def test_a_prepaid_card_is_refused_with_a_plain_reason_and_detached(
    enter: Callable[..., CardSetup], acme: Organization
) -> None:
    setup = enter(PREPAID)
    for _ in range(2):
        with pytest.raises(cards.CardRefused, match="Prepaid cards are not accepted"):
            cards.finish(setup.stripe_setup_intent_id, now=MIDMONTH)
    setup.refresh_from_db()
    assert setup.refused_reason == cards.PREPAID_REFUSAL
    assert attached_at_stripe(acme) == []
    assert not cards.has_usable_card(acme)


def test_f27_finishing_twice_at_once_saves_one_card(enter: Callable[..., CardSetup], acme: Organization) -> None:
    setup = enter()

    def finish(_: int) -> int:
        try:
            return cards.finish(setup.stripe_setup_intent_id, now=MIDMONTH).pk
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(finish, range(4)))) == 1
    assert PaymentMethod.objects.count() == 1
    assert len(attached_at_stripe(acme)) == 1


def test_f27_the_same_card_entered_again_replaces_its_row_and_stays_default(save: Save, acme: Organization) -> None:
    first, second = save(VISA), save(VISA)
    live = PaymentMethod.objects.filter(removed_at=None)
    assert [(method.pk, method.is_default) for method in live] == [(second.pk, True)]
    assert attached_at_stripe(acme) == [second.stripe_payment_method_id]
    assert default_at_stripe(acme) == second.stripe_payment_method_id
    first.refresh_from_db()
    assert first.removed_at
    assert first.detached_at


# Webhook and redirect


def test_f30_the_webhook_before_the_redirect(enter: Callable[..., CardSetup], acme: Organization) -> None:
    setup = enter()
    handle_events()
    by_webhook = PaymentMethod.objects.get()
    assert by_webhook.is_default
    assert default_at_stripe(acme) == by_webhook.stripe_payment_method_id
    assert cards.finish(setup.stripe_setup_intent_id, now=MIDMONTH) == by_webhook


def test_f31_the_redirect_before_the_webhook(save: Save, acme: Organization) -> None:
    by_redirect = save()
    before = PaymentMethod.objects.values().get()
    handle_events()
    assert PaymentMethod.objects.values().get() == before
    assert default_at_stripe(acme) == by_redirect.stripe_payment_method_id


def test_a_prepaid_card_heard_of_by_webhook_first_is_refused_too(
    enter: Callable[..., CardSetup], acme: Organization
) -> None:
    setup = enter(PREPAID)
    handle_events()
    setup.refresh_from_db()
    assert setup.refused_reason == cards.PREPAID_REFUSAL
    assert attached_at_stripe(acme) == []


def test_a_card_saved_on_stripes_own_page_is_taken_over(stripe: RunningSandbox, acme: Organization) -> None:
    customer = customers.ensure(acme, now=MIDMONTH)
    params = {"customer": customer.stripe_customer_id, "payment_method": "pm_card_visa", "confirm": True}
    intent = gateway.create("setup_intents", params | {"payment_method_types": ["card"]}, "elsewhere")
    handle_events()
    assert PaymentMethod.objects.get().stripe_payment_method_id == intent["payment_method"]
    assert cards.has_usable_card(acme)


def test_f40_a_card_detached_at_stripe_is_removed_and_the_next_one_is_default(save: Save, acme: Organization) -> None:
    first, second = save(VISA), save(MASTERCARD)
    gateway.act("payment_methods", "detach", first.stripe_payment_method_id, {}, "by-stripe")
    handle_events()
    assert [method.pk for method in PaymentMethod.objects.filter(removed_at=None, is_default=True)] == [second.pk]
    assert default_at_stripe(acme) == second.stripe_payment_method_id


def test_a_card_renewed_by_its_bank_shows_the_new_expiry(save: Save) -> None:
    method = save()
    renewed = {"card": {"exp_month": 3, "exp_year": 2039}}
    gateway.update("payment_methods", method.stripe_payment_method_id, renewed, "renewed")
    handle_events()
    method.refresh_from_db()
    assert (method.expires_month, method.expires_year) == (3, 2039)


# Choosing and removing


def test_another_card_can_be_made_the_default_and_back(save: Save, acme: Organization) -> None:
    first, second = save(VISA), save(MASTERCARD)
    for method in (second, first):
        cards.make_default(method, now=MIDMONTH)
        assert PaymentMethod.objects.get(is_default=True) == method
        assert default_at_stripe(acme) == method.stripe_payment_method_id


def test_a_removed_card_is_detached_and_the_next_one_is_default(save: Save, acme: Organization) -> None:
    first, second = save(VISA), save(MASTERCARD)
    cards.remove(first, now=MIDMONTH)
    assert attached_at_stripe(acme) == [second.stripe_payment_method_id]
    assert default_at_stripe(acme) == second.stripe_payment_method_id
    with pytest.raises(PaymentMethod.DoesNotExist):
        cards.make_default(first, now=MIDMONTH)


def test_the_last_card_may_go_when_nothing_is_owed(save: Save, acme: Organization) -> None:
    cards.remove(save(), now=MIDMONTH)
    assert not cards.has_usable_card(acme)
    assert default_at_stripe(acme) is None


def test_the_last_card_stays_while_money_is_owed(save: Save, acme: Organization) -> None:
    method = save()
    owe(acme, 1)
    with pytest.raises(cards.CardNeeded) as refusal:
        cards.remove(method, now=MIDMONTH)
    assert refusal.value.accrued_micros == 1
    assert cards.has_usable_card(acme)
