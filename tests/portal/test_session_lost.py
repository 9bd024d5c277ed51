"""F33: a session that is lost while the bank asks. Who logs in again finds the purchase, or the card, where it was."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.account.models import EmailAddress
from django.test import Client
from django.urls import reverse

from accounts.models import User
from billing_portal.billing import cards, purchase_payment, purchases
from billing_portal.billing.models import PaymentMethod, Purchase
from tests.billing.world import MIDMONTH, Buyer
from tests.conftest import PASSWORD
from tests.stripe.conftest import RunningSandbox

ASKS_ITS_OWNER = "4000002760003184"


@pytest.fixture(autouse=True)
def _february(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.clock.now", lambda: MIDMONTH)


def text_of(page: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.content.decode()))


def log_in_on_the_way_to(address: str, user: User) -> Any:
    """Come to an address without a session, log in on the page that this leads to, and return what is shown then."""
    EmailAddress.objects.get_or_create(user=user, email=user.email, verified=True, primary=True)
    stranger = Client()
    asked = stranger.get(address)
    assert asked.status_code == 302
    login = urlsplit(asked["Location"])
    assert login.path == reverse("account_login")
    shown = stranger.get(asked["Location"]).content.decode()
    (following,) = parse_qs(login.query)["next"]
    assert 'name="next"' in shown
    form = {"login": user.email, "password": PASSWORD, "next": following}
    return stranger.post(reverse("account_login"), form, follow=True)


def test_f33_a_purchase_that_the_bank_asks_about_is_found_again_and_is_paid_once(
    stripe: RunningSandbox, buyer: Callable[..., Buyer]
) -> None:
    acme = buyer("acme", card="pm_card_authenticationRequired")
    purchase = purchases.ask(
        organization=acme.organization,
        user=acme.owner,
        micros=50_000_000,
        currency="USD",
        way=Purchase.Way.CARD,
        key=purchases.next_key(acme.organization),
        payment_method=acme.card,
        now=MIDMONTH,
    )
    purchase_payment.advance(purchase, now=MIDMONTH)
    here = reverse("purchase", args=[acme.organization.public_id, purchase.public_id])
    found = log_in_on_the_way_to(here, acme.owner)
    assert found.request["PATH_INFO"] == here
    assert "Your bank wants you to confirm" in text_of(found)
    assert purchase.invoice.hosted_invoice_url in found.content.decode().replace("&amp;", "&")
    # Also who begins anew, in another window, is led to the one that waits; nothing is charged beside it.
    again = Client()
    again.force_login(acme.owner, backend="django.contrib.auth.backends.ModelBackend")
    form = {"amount": "50.00", "currency": "USD", "key": purchases.next_key(acme.organization), "way": "card"}
    form["card"] = acme.card.pk
    buy = again.post(reverse("buy_credit_pay", args=[acme.organization.public_id]), form, follow=True)
    assert buy.request["PATH_INFO"] == here
    (intent,) = stripe.dump()["objects"]["payment_intent"]
    stripe.control.post("/_sandbox/authenticate", json={"intent": intent["id"]}).raise_for_status()
    purchase_payment.advance(purchase, now=MIDMONTH)
    assert acme.credit_micros == 50_000_000
    assert purchase.state == Purchase.State.CREDITED
    assert "Your bank wants you to confirm" not in text_of(log_in_on_the_way_to(here, acme.owner))
    assert Purchase.objects.count() == 1


def test_f33_a_card_that_the_bank_asked_about_is_saved_by_who_comes_back_and_logs_in(
    stripe: RunningSandbox, buyer: Callable[..., Buyer]
) -> None:
    acme = buyer("acme", card=None)
    started = cards.start(acme.organization, acme.owner, now=MIDMONTH)
    cards.accept_mandate(started.setup, acme.owner, now=MIDMONTH)
    intent = started.setup.stripe_setup_intent_id
    back = reverse("payment_method_added", args=[acme.organization.public_id])
    card = {"number": ASKS_ITS_OWNER, "exp_month": "12", "exp_year": "2034", "cvc": "123"}
    params = {f"payment_method_data[card][{name}]": value for name, value in card.items()}
    params |= {"payment_method_data[type]": "card", "return_url": f"http://127.0.0.1{back}"}
    params |= {"client_secret": started.client_secret}
    asked = stripe.browser("POST", f"/v1/setup_intents/{intent}/confirm", params).json()
    assert asked["status"] == "requires_action"
    stripe.control.post("/_sandbox/authenticate", json={"intent": intent}).raise_for_status()
    address = f"{back}?setup_intent={intent}&setup_intent_client_secret={started.client_secret}"
    shown = log_in_on_the_way_to(address, acme.owner)
    assert "is saved" in text_of(shown)
    assert PaymentMethod.objects.get().is_default
