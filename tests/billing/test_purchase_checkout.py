"""Buying credit in Stripe Checkout: credited when Stripe says that it is paid, never because a browser came back."""

from datetime import timedelta
from typing import Any

import pytest

from billing_portal.billing import customers, gateway, inbox, purchase_payment, purchases
from billing_portal.billing.models import Customer, InboxEvent, Invoice, InvoiceLine, Purchase
from tests.billing.test_purchases import FIFTY, MakeBuyer, ask, assert_sound, handle_events, states
from tests.billing.world import MIDMONTH, Buyer
from tests.stripe.conftest import RunningSandbox

CHECKOUT = {"way": Purchase.Way.CHECKOUT, "payment_method": None, "return_url": "https://portal.example/back/"}


def open_checkout(acme: Buyer, **changes: Any) -> Purchase:
    purchase = ask(acme, **CHECKOUT | changes)
    purchase_payment.advance(purchase, now=MIDMONTH)
    return purchase


def pay(stripe: RunningSandbox, purchase: Purchase, card: str = "pm_card_visa") -> None:
    """Pay as the hosted page does."""
    session = gateway.retrieve("checkout.sessions", purchase.stripe_session_id or "")
    confirm: Any = {"payment_method": card, "return_url": "https://portal.example/"}
    stripe.client.v1.payment_intents.confirm(session["payment_intent"], confirm)


def test_checkout_is_opened_once_and_leads_back(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme", card=None)
    purchase = open_checkout(acme)
    assert (purchase.state, acme.credit_micros) == ("paying", 0)
    assert purchase.checkout_url.startswith(stripe.url)
    assert open_checkout(acme, key=purchase.public_id) == purchase
    session = stripe.dump()["objects"]["checkout.session"][0]
    assert (session["amount_subtotal"], session["currency"], session["adaptive_pricing"]) == (
        5000,
        "usd",
        {"enabled": True},
    )
    assert session["success_url"] == session["cancel_url"] == "https://portal.example/back/"
    assert purchase.expires_at == MIDMONTH + timedelta(hours=1)


@pytest.mark.parametrize("first", ["webhook", "page", "sweep"])
def test_f30_f31_whoever_hears_of_the_payment_first_the_credit_is_given_once(
    stripe: RunningSandbox, buyer: MakeBuyer, first: str
) -> None:
    acme = buyer("acme", card=None)
    purchase = open_checkout(acme)
    pay(stripe, purchase)
    assert acme.credit_micros == 0
    tellers = {
        "webhook": handle_events,
        "page": lambda: purchase_payment.advance(purchase, now=MIDMONTH),
        "sweep": lambda: purchase_payment.advance_waiting(now=MIDMONTH + timedelta(minutes=5)),
    }
    tellers.pop(first)()
    assert acme.credit_micros == FIFTY
    for tell in tellers.values():
        tell()
    purchase_payment.advance_waiting(now=MIDMONTH + timedelta(hours=2))
    purchase.refresh_from_db()
    assert (purchase.state, purchase.due_at) == ("credited", None)
    assert states(purchase) == ["asked", "paying", "paid", "credited"]
    assert purchase.invoice == Invoice.objects.get()
    assert InvoiceLine.objects.get().amount_minor == 5000
    assert_sound(acme, stripe)


def test_an_unpaid_checkout_that_somebody_returns_from_gives_nothing(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme", card=None)
    purchase = open_checkout(acme)
    for minutes in range(1, 50, 7):
        assert not purchase_payment.advance(purchase, now=MIDMONTH + timedelta(minutes=minutes))
    handle_events()
    assert acme.credit_micros == 0


def test_f32_an_abandoned_checkout_expires(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme", card=None)
    purchase = open_checkout(acme)
    later = MIDMONTH + timedelta(hours=1, minutes=5)
    stripe.advance_to(later.timestamp())
    assert purchase_payment.advance_waiting(now=later) == 1
    purchase.refresh_from_db()
    assert (purchase.state, acme.credit_micros) == ("canceled", 0)
    assert ask(acme, **CHECKOUT).pk != purchase.pk


def test_given_up_the_session_is_closed_at_stripe(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme", card=None)
    purchase = open_checkout(acme)
    purchases.give_up(purchase, now=MIDMONTH)
    assert purchase_payment.advance(purchase, now=MIDMONTH)
    assert purchase.state == "canceled"
    assert stripe.dump()["objects"]["checkout.session"][0]["status"] == "expired"


def test_paid_a_moment_before_it_was_given_up_it_is_credited(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme", card=None)
    purchase = open_checkout(acme)
    pay(stripe, purchase)
    purchases.give_up(purchase, now=MIDMONTH)
    assert purchase_payment.advance(purchase, now=MIDMONTH)
    assert purchase.state == "credited"
    assert_sound(acme, stripe)


@pytest.mark.parametrize("when", ["before", "after"])
def test_f17_an_unanswered_opening_is_repeated_with_its_key(
    stripe: RunningSandbox, buyer: MakeBuyer, when: str
) -> None:
    acme = buyer("acme", card=None)
    stripe.faults(fail_next={"when": when, "status": 500, "path": "/checkout/sessions", "method": "POST"})
    purchase = open_checkout(acme)
    assert purchase.checkout_url == ""
    purchase_payment.advance(purchase, now=MIDMONTH + timedelta(minutes=2))
    assert purchase.checkout_url
    assert len(stripe.dump()["objects"]["checkout.session"]) == 1


def test_a_card_declined_on_the_page_may_be_followed_by_another(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme", card=None)
    purchase = open_checkout(acme)
    with pytest.raises(Exception, match="declined"):
        pay(stripe, purchase, "pm_card_chargeDeclined")
    handle_events()
    pay(stripe, purchase)
    handle_events()
    purchase.refresh_from_db()
    assert purchase.state == "credited"
    assert_sound(acme, stripe)


def test_a_local_currency_is_charged_and_the_credit_is_in_ones_own(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme", card=None)
    stripe_id = Customer.objects.get().stripe_customer_id
    gateway.update("customers", stripe_id, {"email": "owner+location_FR@acme.example"}, "france")
    purchase = open_checkout(acme)
    pay(stripe, purchase)
    purchase_payment.advance(purchase, now=MIDMONTH)
    session = gateway.retrieve("checkout.sessions", purchase.stripe_session_id or "")
    assert session["presentment_details"] == {"presentment_amount": 4500, "presentment_currency": "eur"}
    assert (purchase.state, acme.credit_micros) == ("credited", FIFTY)


def test_taxed_credit_is_given_net(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme", card=None)
    customer = customers.subscribe(acme.organization, now=MIDMONTH)
    address = {"country": "DE", "line1": "Straße 1", "postal_code": "10115", "city": "Berlin"}
    gateway.update("customers", customer.stripe_customer_id, {"address": address}, "address")
    gateway.update("subscriptions", customer.stripe_subscription_id or "", {"automatic_tax": {"enabled": True}}, "tax")
    purchase = open_checkout(acme)
    pay(stripe, purchase)
    handle_events()
    assert (Invoice.objects.get().total_minor, acme.credit_micros) == (5950, FIFTY)
    assert_sound(acme, stripe)


def test_an_event_about_a_session_is_not_needed(stripe: RunningSandbox, buyer: MakeBuyer) -> None:
    acme = buyer("acme", card=None)
    pay(stripe, open_checkout(acme))
    handle_events()
    ignored = set(InboxEvent.objects.filter(state="ignored").values_list("type", flat=True))
    assert "checkout.session.completed" in ignored
    assert inbox.handle_waiting(now=MIDMONTH) == 0
    assert acme.credit_micros == FIFTY


@pytest.mark.parametrize(("country", "paid"), [("JP", ("JPY", 7_500)), ("KW", ("KWD", 15_000)), ("US", ("", None))])
def test_f42_what_was_paid_in_another_currency_is_kept_and_the_credit_stays_in_its_own(
    stripe: RunningSandbox, buyer: MakeBuyer, country: str, paid: tuple[str, int | None]
) -> None:
    acme = buyer("acme", card=None)
    customer = Customer.objects.get(organization=acme.organization)
    email = {"email": f"owner+location_{country}@acme.example"}
    gateway.update("customers", customer.stripe_customer_id, email, "email")
    purchase = open_checkout(acme)
    pay(stripe, purchase)
    purchase_payment.advance(purchase, now=MIDMONTH)
    assert (purchase.presentment_currency, purchase.presentment_minor) == paid
    assert (purchase.state, purchase.currency, acme.credit_micros) == ("credited", "USD", FIFTY)
