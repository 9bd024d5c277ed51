"""Buying credit and automatic top-up on the pages: previews, one charge a form, and errors that change nothing."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Membership, Organization
from billing_portal.billing import purchase_payment, purchase_tasks, purchases, top_up_orders
from billing_portal.billing.models import Invoice, PaymentMethod, Purchase, TopUp
from billing_portal.ledger import accounts, credits
from tests.billing.world import MIDMONTH, Buyer, save_card
from tests.conftest import NOW, join
from tests.stripe.conftest import RunningSandbox

HTMX = {"headers": {"HX-Request": "true"}}


@pytest.fixture(autouse=True)
def _february(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.clock.now", lambda: MIDMONTH)
    # The worker: what is queued is not done until the test says so.
    monkeypatch.setattr("accounts.queueing.send", lambda task, *args, **_: True)


@pytest.fixture
def shop(db: None, acme: Organization, alice: Any) -> Buyer:
    """Acme with books, ten dollars of credit and a card that is only here."""
    accounts.open(organization=acme, now=NOW)
    credits.grant_welcome(organization=acme, now=NOW)
    card = PaymentMethod.objects.create(
        organization=acme, stripe_payment_method_id="pm_1", kind="card", brand="visa", last4="4242", is_default=True,
        created_at=NOW,
    )  # fmt: skip
    return Buyer(acme, alice, card)


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def url(name: str, acme: Buyer, *more: Any) -> str:
    return reverse(name, args=[acme.organization.public_id, *more])


def text_of(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def hidden(response: Any) -> dict[str, str]:
    """Return the fields of the form that pays, as the page shows them."""
    page = response.content.decode().partition("buy/pay/")[2]
    return dict(re.findall(r'type="hidden" name="(amount|currency|key|card)" value="([^"]*)"', page))


def test_the_preview_says_what_it_costs_what_pays_and_what_it_gives(shop: Buyer) -> None:
    page = client_of(shop.owner).get(url("buy_credit", shop), {"amount": "37.50"})
    text = text_of(page)
    assert "You pay $37.50 plus tax" in text
    assert "Visa 4242" in text
    assert "$10.00 → becomes $47.50" in text
    assert hidden(page) == {
        "amount": "37.50",
        "currency": "USD",
        "key": str(purchases.next_key(shop.organization)),
        "card": str(shop.card.pk if shop.card else 0),
    }


def test_htmx_gets_the_preview_alone(shop: Buyer) -> None:
    fragment = client_of(shop.owner).get(url("buy_credit", shop), {"amount": "25"}, **HTMX).content.decode()
    assert "<html" not in fragment
    assert "What it comes to" in fragment


@pytest.mark.parametrize("amount", ["-5", "0", "9.99", "10000.01", "12.345", "abc", "", "1e9", "NaN", "9" * 40, "\x00"])
def test_an_amount_that_makes_no_sense_is_said_to_and_cannot_be_paid(shop: Buyer, amount: str) -> None:
    client = client_of(shop.owner)
    page = client.get(url("buy_credit", shop), {"amount": amount})
    assert page.status_code == 200
    assert "buy/pay/" not in page.content.decode()
    form = {"amount": amount, "currency": "USD", "key": purchases.next_key(shop.organization), "way": "checkout"}
    answer = client.post(url("buy_credit_pay", shop), form)
    assert "Nothing was bought" in text_of(answer)
    assert not Purchase.objects.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"currency": "EUR"}, "bought in USD"),
        ({"key": "00000000-0000-0000-0000-000000000001"}, "out of date"),
        ({"key": "nonsense"}, "Enter a valid UUID"),
        ({"card": ""}, "default card has changed"),
        ({"way": "cash"}, "Select a valid choice"),
    ],
)
def test_f41_a_form_that_was_tampered_with_buys_nothing(shop: Buyer, changes: dict[str, str], said: str) -> None:
    client = client_of(shop.owner)
    form = hidden(client.get(url("buy_credit", shop), {"amount": "25"})) | {"way": "card"} | changes
    assert said in text_of(client.post(url("buy_credit_pay", shop), form))
    assert not Purchase.objects.exists()


def test_i16_a_foreign_card_is_none(shop: Buyer, other: Organization) -> None:
    foreign = PaymentMethod.objects.create(
        organization=other, stripe_payment_method_id="pm_2", kind="card", is_default=True, created_at=NOW
    )
    client = client_of(shop.owner)
    form = hidden(client.get(url("buy_credit", shop))) | {"way": "card", "card": str(foreign.pk)}
    assert "Nothing was bought" in text_of(client.post(url("buy_credit_pay", shop), form))
    assert not Purchase.objects.exists()


def test_f27_f28_a_form_sent_twice_leads_to_one_purchase(shop: Buyer) -> None:
    client = client_of(shop.owner)
    form = hidden(client.get(url("buy_credit", shop), {"amount": "25"})) | {"way": "card"}
    first, second = (client.post(url("buy_credit_pay", shop), form) for _ in range(2))
    purchase = Purchase.objects.get()
    assert first.url == second.url == url("purchase", shop, purchase.public_id)
    changed = client.post(url("buy_credit_pay", shop), form | {"amount": "50"}, follow=True)
    assert "used already" in text_of(changed)
    assert Purchase.objects.get().amount_micros == 25_000_000


def test_f29_a_second_form_waits_for_the_first_purchase(shop: Buyer) -> None:
    client = client_of(shop.owner)
    client.post(url("buy_credit_pay", shop), hidden(client.get(url("buy_credit", shop))) | {"way": "card"})
    page = client.get(url("buy_credit", shop))
    assert "A purchase is under way" in text_of(page)
    answer = client.post(url("buy_credit_pay", shop), hidden(page) | {"way": "card"}, follow=True)
    assert "still under way" in text_of(answer)
    assert Purchase.objects.count() == 1


def test_a_frozen_account_buys_nothing(shop: Buyer) -> None:
    client = client_of(shop.owner)
    form = hidden(client.get(url("buy_credit", shop))) | {"way": "card"}
    accounts.freeze(shop.organization.pk, reason="a test", now=NOW)
    assert "nothing can be bought now" in text_of(client.post(url("buy_credit_pay", shop), form))
    assert not Purchase.objects.exists()


def test_without_a_card_checkout_is_the_way(shop: Buyer) -> None:
    PaymentMethod.objects.all().delete()
    page = client_of(shop.owner).get(url("buy_credit", shop))
    assert "at Stripe" in text_of(page)
    assert 'value="card"' not in page.content.decode()


@pytest.mark.parametrize("role", [Membership.Role.VIEWER, Membership.Role.DEVELOPER])
def test_who_may_not_buy_may_look(shop: Buyer, make_user: Callable[..., Any], role: str) -> None:
    bob = make_user("bob@acme.example")
    join(shop.organization, bob, role)
    client = client_of(bob)
    assert client.get(url("buy_credit", shop)).status_code == 403
    credits_page = client.get(url("credits", shop)).content.decode()
    assert url("buy_credit", shop) not in credits_page
    assert url("top_up", shop) in credits_page
    assert "Owners, admins and billing managers" in text_of(client.get(url("top_up", shop)))


# ── The purchase's page ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def bought(shop: Buyer) -> Purchase:
    return purchases.ask(
        organization=shop.organization,
        user=shop.owner,
        micros=50_000_000,
        currency="USD",
        way=Purchase.Way.CARD,
        key=purchases.next_key(shop.organization),
        payment_method=shop.card,
        now=MIDMONTH,
    )


def page_of(shop: Buyer, purchase: Purchase, **query: str) -> Any:
    return client_of(shop.owner).get(url("purchase", shop, purchase.public_id), query)


def test_f31_coming_back_credits_nothing_and_says_pending(shop: Buyer, bought: Purchase) -> None:
    page = page_of(shop, bought, redirect_status="succeeded", payment_intent="pi_1", session_id="cs_1", paid="1")
    assert "Pending" in text_of(page)
    assert 'hx-trigger="every 2s"' in page.content.decode()
    assert 'http-equiv="refresh"' in page.content.decode()
    bought.refresh_from_db()
    assert (bought.state, shop.credit_micros) == ("asked", 10_000_000)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"state": "needs_action", "expires_at": MIDMONTH + timedelta(days=1)}, "Your bank wants you to confirm"),
        ({"state": "paying", "way": "checkout", "checkout_url": "https://checkout.example/"}, "Go on at Stripe"),
        ({"state": "paying", "is_given_up": True}, "Being canceled"),
        ({"state": "paying", "declines": 1, "attempts": 1, "failure": "Declined."}, "It is tried again"),
        ({"state": "paid"}, "the credit is being added"),
        ({"state": "failed", "failure": "Your card was declined.", "due_at": None}, "Your card was declined."),
        ({"state": "canceled", "due_at": None}, "Nothing was charged"),
    ],
)
def test_each_state_says_what_is_and_what_to_do(
    shop: Buyer, bought: Purchase, fields: dict[str, Any], says: str
) -> None:
    invoice = Invoice.objects.create(
        organization=shop.organization, stripe_invoice_id="in_1", currency="USD", state="open", drafted_at=NOW,
        hosted_invoice_url="https://invoice.example/1",
    )  # fmt: skip
    Purchase.objects.filter(pk=bought.pk).update(invoice=invoice, **{"due_at": MIDMONTH + timedelta(hours=1)} | fields)
    page = page_of(shop, bought)
    assert says in text_of(page)
    has_ended = fields["state"] in {"failed", "canceled"}
    assert ("every 2s" in page.content.decode()) is not has_ended
    assert fields.get("failure", "") in text_of(client_of(shop.owner).get(url("purchases", shop)))


def test_canceling_gives_up(shop: Buyer, bought: Purchase) -> None:
    client = client_of(shop.owner)
    for _ in range(2):
        assert client.post(url("purchase_cancel", shop, bought.public_id)).status_code == 302
    bought.refresh_from_db()
    assert bought.is_given_up
    purchase_payment.advance(bought, now=MIDMONTH)
    assert "Canceled" in text_of(page_of(shop, bought))


def test_the_pages_ask_the_database_a_fixed_number_of_times(
    shop: Buyer, bought: Purchase, django_assert_max_num_queries: Any
) -> None:
    client = client_of(shop.owner)
    for name, arguments, most in (
        ("buy_credit", [], 18),
        ("purchase", [bought.public_id], 13),
        ("purchases", [], 12),
        ("top_up", [], 20),
    ):
        client.get(url(name, shop, *arguments))
        with django_assert_max_num_queries(most):
            client.get(url(name, shop, *arguments))


# ── Through Stripe ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_from_the_form_to_credit_by_card_and_on_the_invoices_page(
    stripe: RunningSandbox, buyer: Callable[..., Buyer]
) -> None:
    acme = buyer("acme")
    client = client_of(acme.owner)
    form = hidden(client.get(url("buy_credit", acme), {"amount": "50"})) | {"way": "card"}
    page = client.post(url("buy_credit_pay", acme), form).url
    purchase_tasks.advance_purchase(Purchase.objects.get().pk)
    text = text_of(client.get(page))
    assert "$50.00 of credit is ready to use" in text
    assert "every 2s" not in client.get(page).content.decode()
    invoice = Invoice.objects.get()
    assert "Prepaid credit" in text_of(client.get(url("invoices", acme)))
    shown = text_of(client.get(url("invoice", acme, invoice.public_id)))
    assert "agrees with your call log" not in shown
    assert "agrees with your purchase" in shown
    assert "$50.00" in text_of(client.get(url("credits", acme)))


def test_checkout_is_one_redirect_away_and_leads_back(stripe: RunningSandbox, buyer: Callable[..., Buyer]) -> None:
    acme = buyer("acme", card=None)
    client = client_of(acme.owner)
    form = hidden(client.get(url("buy_credit", acme), {"amount": "50"})) | {"way": "checkout"}
    there = client.post(url("buy_credit_pay", acme), form)
    purchase = Purchase.objects.get()
    assert there.url == purchase.checkout_url
    assert client.post(url("buy_credit_pay", acme), form).url == there.url
    session = stripe.dump()["objects"]["checkout.session"][0]
    assert session["success_url"] == f"http://testserver{url('purchase', acme, purchase.public_id)}"


def test_with_stripe_away_nothing_is_lost(stripe: RunningSandbox, buyer: Callable[..., Buyer]) -> None:
    acme = buyer("acme", card=None)
    client = client_of(acme.owner)
    stripe.faults(fail_next={"when": "before", "status": 500, "path": "/checkout/sessions"})
    form = hidden(client.get(url("buy_credit", acme), {"amount": "50"})) | {"way": "checkout"}
    page = client.post(url("buy_credit_pay", acme), form, follow=True)
    assert "Pending" in text_of(page)
    assert client.post(url("buy_credit_pay", acme), form).url == Purchase.objects.get().checkout_url


# ── Automatic top-up ──────────────────────────────────────────────────────────────────────────────────────────────────

TERMS = {"threshold": "20", "amount": "50", "ceiling": "200"}


def test_the_terms_are_shown_in_words_before_they_are_accepted(shop: Buyer) -> None:
    page = client_of(shop.owner).get(url("top_up", shop), TERMS)
    text = text_of(page)
    assert "falls below $20.00" in text
    assert "at most $200.00 a month, which is 4 times" in text
    assert top_up_orders.mandate_for("Acme Robotics") in text
    assert not TopUp.objects.exists()


def test_switching_it_on_changing_it_and_off(shop: Buyer) -> None:
    client = client_of(shop.owner)
    client.post(url("top_up_on", shop), TERMS)
    order = TopUp.objects.get()
    assert (order.threshold_micros, order.amount_micros, order.ceiling_micros) == (20_000_000, 50_000_000, 200_000_000)
    assert (order.accepted_by, order.mandate_text) == (shop.owner, top_up_orders.mandate_for("Acme Robotics"))
    text = text_of(client.get(url("top_up", shop)))
    assert "On Buys $50.00 when credit falls below $20.00" in text
    client.post(url("top_up_on", shop), TERMS | {"amount": "100"})
    assert TopUp.objects.filter(ended_at=None).get().amount_micros == 100_000_000
    client.post(url("top_up_off", shop))
    client.post(url("top_up_off", shop))
    assert not TopUp.objects.filter(ended_at=None).exists()
    assert "Off" in text_of(client.get(url("credits", shop)))


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": "5"},
        {"amount": "x"},
        {"threshold": "-1"},
        {"ceiling": "49.99"},
        {"ceiling": ""},
        {"amount": "50.001"},
    ],
)
def test_terms_that_make_no_sense_are_form_errors(shop: Buyer, changes: dict[str, str]) -> None:
    client = client_of(shop.owner)
    for answer in (
        client.get(url("top_up", shop), TERMS | changes),
        client.post(url("top_up_on", shop), TERMS | changes),
    ):
        assert "Nothing was changed" in text_of(answer)
    assert not TopUp.objects.exists()


def test_without_a_card_it_cannot_be_switched_on(shop: Buyer) -> None:
    PaymentMethod.objects.all().delete()
    client = client_of(shop.owner)
    assert "Add a card first" in text_of(client.get(url("top_up", shop), TERMS))
    assert "There is no card to charge" in text_of(client.post(url("top_up_on", shop), TERMS))


def test_f35_a_top_up_that_was_switched_off_says_why(shop: Buyer) -> None:
    client = client_of(shop.owner)
    client.post(url("top_up_on", shop), TERMS)
    top_up_orders.end(TopUp.objects.get(), reason="Your card was declined.", now=MIDMONTH)
    for name in ("credits", "top_up"):
        assert "could not be charged: Your card was declined." in text_of(client.get(url(name, shop)))


def test_switching_on_with_low_credit_buys_at_once(
    stripe: RunningSandbox, buyer: Callable[..., Buyer], monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = buyer("acme")
    monkeypatch.setattr("accounts.queueing.send", lambda task, *args, **_: task(*args))
    client_of(acme.owner).post(url("top_up_on", acme), TERMS)
    assert Purchase.objects.get().state == "credited"
    assert acme.credit_micros == 50_000_000
    save_card(acme.organization, "pm_card_mastercard", now=MIDMONTH)
