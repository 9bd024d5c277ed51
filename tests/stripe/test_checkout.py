"""Checkout: what is asked before the sum is known, what it is paid in, and what its success leaves behind."""

from typing import Any

import pytest
import stripe

URLS = {"success_url": "https://portal.example/done"}
CONFIRM: Any = {"payment_method": "pm_card_visa", "return_url": "https://portal.example/"}
BERLIN = {"name": "ACME", "country": "DE", "line1": "Straße 1", "postal_code": "10115", "city": "Berlin", "state": ""}
ASKS: Any = {"automatic_tax": {"enabled": True}, "tax_id_collection": {"enabled": True}}


def credit(amount: int = 10_000, currency: str = "usd", **fields: Any) -> dict[str, Any]:
    product = {"name": "Credit"}
    return {"price_data": {"currency": currency, "unit_amount": amount, "product_data": product, **fields}}


def open_session(client, **fields: Any) -> stripe.checkout.Session:
    return client.v1.checkout.sessions.create(
        {"mode": "payment", "line_items": [{**credit(), "quantity": 1}], **URLS, **fields}
    )


def pay(client, session) -> stripe.checkout.Session:
    client.v1.payment_intents.confirm(session.payment_intent, CONFIRM)
    return client.v1.checkout.sessions.retrieve(session.id)


def answer(sandbox, session, **fields: str):
    return sandbox.control.post(f"/c/pay/{session.id}/details", data={**BERLIN, **fields})


# Addresses and tax ids


def test_tax_waits_for_the_address_the_page_asks_for(stripe_sandbox, client):
    session = open_session(client, automatic_tax={"enabled": True})
    assert (session.automatic_tax.status, session.amount_total) == ("requires_location_inputs", 10_000)
    assert "Billing details" in stripe_sandbox.control.get(f"/c/pay/{session.id}").text
    assert answer(stripe_sandbox, session).status_code == 303
    found = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent"]})
    assert (found.automatic_tax.status, found.amount_total, found.total_details.amount_tax) == (
        "complete",
        11_900,
        1900,
    )
    assert found.payment_intent.amount == 11_900
    page = stripe_sandbox.control.get(f"/c/pay/{session.id}").text
    assert "Billing details" not in page
    assert "data-secret" in page


def test_a_tax_id_is_collected_and_decides_who_owes_the_tax(stripe_sandbox, client):
    session = open_session(client, customer_creation="always", **ASKS)
    assert (session.tax_id_collection.enabled, session.tax_id_collection.required) == (True, "never")
    assert answer(stripe_sandbox, session, tax_id="DE 123 456 789").status_code == 303
    done = pay(client, session)
    assert done.amount_total == 10_000  # reverse charge
    assert [t.to_dict() for t in done.customer_details.tax_ids] == [{"type": "eu_vat", "value": "DE123456789"}]
    assert (done.customer_details.name, done.customer_details.address.city) == ("ACME", "Berlin")
    customer = client.v1.customers.retrieve(done.customer, {"expand": ["tax_ids"]})
    assert (customer.address.country, customer.tax_ids.data[0].value) == ("DE", "DE123456789")


@pytest.mark.parametrize(
    "fields", [{"line1": ""}, {"country": ""}, {"tax_id": "FR123456789"}, {"tax_id": "!"}, {"country": "US"}]
)
def test_a_form_that_says_too_little_changes_nothing(stripe_sandbox, client, fields):
    session = open_session(client, **ASKS)
    before = stripe_sandbox.dump()["objects"]
    refused = answer(stripe_sandbox, session, **fields)
    assert refused.status_code == 400
    assert 'role="alert"' in refused.text
    assert stripe_sandbox.dump()["objects"] == before


def test_a_tax_id_can_be_required_where_there_is_one(stripe_sandbox, client):
    session = open_session(client, tax_id_collection={"enabled": True, "required": "if_supported"})
    assert "A tax ID is required" in answer(stripe_sandbox, session).text
    assert answer(stripe_sandbox, session, country="BO").status_code == 303


def test_what_a_known_customer_types_is_kept_only_with_leave(stripe_sandbox, client):
    customer = client.v1.customers.create({"email": "owner@customer.example"})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        open_session(client, customer=customer.id, automatic_tax={"enabled": True})
    assert refused.value.code == "customer_tax_location_invalid"
    with pytest.raises(stripe.InvalidRequestError, match=r"customer_update\[name\]"):
        open_session(client, customer=customer.id, tax_id_collection={"enabled": True})
    leave = {"address": "auto", "name": "auto"}
    session = open_session(client, customer=customer.id, customer_update=leave, **ASKS)
    answer(stripe_sandbox, session)
    assert pay(client, session).amount_total == 11_900
    kept = client.v1.customers.retrieve(customer.id)
    assert (kept.name, kept.address.postal_code) == ("ACME", "10115")


def test_tax_within_a_price_leaves_the_sum_as_it_is(stripe_sandbox, client):
    item = {**credit(11_900, tax_behavior="inclusive"), "quantity": 1}
    session = open_session(client, line_items=[item], automatic_tax={"enabled": True})
    answer(stripe_sandbox, session)
    found = client.v1.checkout.sessions.retrieve(session.id)
    assert (found.amount_total, found.total_details.amount_tax) == (11_900, 1_900)


# Currencies


def test_a_customer_pays_in_the_currency_of_their_country(stripe_sandbox, client):
    session = open_session(client, customer_email="owner+location_FR@customer.example")
    assert session.adaptive_pricing.enabled
    done = pay(client, session)
    assert done.presentment_details.to_dict() == {"presentment_amount": 9_000, "presentment_currency": "eur"}
    assert (done.currency, done.amount_total, done.currency_conversion) == ("usd", 10_000, None)
    intent = client.v1.payment_intents.retrieve(done.payment_intent, {"expand": ["latest_charge"]})
    for each in (intent, intent.latest_charge):
        assert each.presentment_details.to_dict() == done.presentment_details.to_dict()
    assert (intent.amount_received, intent.latest_charge.amount) == (10_000, 10_000)
    refund = client.v1.refunds.create({"payment_intent": intent.id, "amount": 2_500})
    assert refund.presentment_details.presentment_amount == 2_250


@pytest.mark.parametrize(("place", "paid"), [("JP", (15_000, "jpy")), ("KW", (30_000, "kwd")), ("US", None)])
def test_amounts_keep_to_the_minor_units_of_the_local_currency(client, place, paid):
    done = pay(client, open_session(client, customer_email=f"owner+location_{place}@customer.example"))
    shown = done.get("presentment_details")
    assert (shown and (shown.presentment_amount, shown.presentment_currency)) == paid


def test_adaptive_pricing_can_be_switched_off(client):
    off: Any = {"adaptive_pricing": {"enabled": False}}
    done = pay(client, open_session(client, customer_email="owner+location_FR@customer.example", **off))
    assert done.get("presentment_details") is None


def test_the_customer_may_choose_the_other_currency(stripe_sandbox, client):
    session = open_session(client, customer_email="owner+location_FR@customer.example")
    page = stripe_sandbox.control.get(f"/c/pay/{session.id}").text
    assert "Pay €90.00" in page
    assert "1 USD = 0.9 EUR, a rate of the sandbox's own." in page
    for currency in ("gbp", "usd"):
        stripe_sandbox.control.post(f"/c/pay/{session.id}/currency", data={"currency": currency})
    assert "Pay $100.00" in stripe_sandbox.control.get(f"/c/pay/{session.id}").text
    assert pay(client, session).get("presentment_details") is None


def test_the_rate_is_named_as_a_number(stripe_sandbox, client):
    session = open_session(client, customer_email="owner+location_JP@customer.example")
    page = stripe_sandbox.control.get(f"/c/pay/{session.id}").text
    assert "¥15,000" in page
    assert "1 USD = 150 JPY" in page


def test_a_payment_of_the_applications_own_is_never_converted(client):
    customer = client.v1.customers.create({"email": "owner+location_FR@customer.example"})
    params: Any = {"amount": 1_000, "currency": "usd", "customer": customer.id, "confirm": True, **CONFIRM}
    assert client.v1.payment_intents.create(params).get("presentment_details") is None


def test_a_session_uses_its_prices_own_amount_in_its_currency(client):
    product = client.v1.products.create({"name": "Credit"})
    options: Any = {"eur": {"unit_amount": 9_500}}
    price = client.v1.prices.create(
        {"currency": "usd", "unit_amount": 10_000, "product": product.id, "currency_options": options}
    )
    items: Any = [{"price": price.id, "quantity": 2}]
    assert open_session(client, line_items=items, currency="eur").amount_total == 19_000
    with pytest.raises(stripe.InvalidRequestError) as refused:
        open_session(client, line_items=items, currency="gbp")
    assert refused.value.param == "currency"


# Subscriptions


def test_a_subscription_starts_when_its_checkout_is_complete(stripe_sandbox, client):
    recurring = {"interval": "month"}
    items = [{**credit(3_000, recurring=recurring), "quantity": 2}]
    session = open_session(client, mode="subscription", line_items=items, **ASKS)
    assert (session.status, session.subscription) == ("open", None)
    answer(stripe_sandbox, session, tax_id="DE123456789", country="DE")
    page = stripe_sandbox.control.get(f"/c/pay/{session.id}").text
    assert "Subscribe" in page
    client.v1.setup_intents.confirm(session.setup_intent, CONFIRM)
    done = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription", "invoice"]})
    assert (done.status, done.payment_status, done.subscription.status) == ("complete", "paid", "active")
    assert done.subscription["items"].data[0].quantity == 2
    assert (done.invoice.status, done.invoice.total) == ("paid", 6_000)
    assert done.invoice.customer_tax_ids[0].value == "DE123456789"
    assert stripe_sandbox.event_types()[-1] == "checkout.session.completed"


def test_a_payment_leaves_a_paid_invoice_where_the_session_asks_for_one(stripe_sandbox, client):
    customer = client.v1.customers.create({"email": "owner@customer.example"})
    owed: Any = {"amount": 30, "currency": "usd"}
    client.v1.customers.balance_transactions.create(customer.id, owed)
    wanted: Any = {"enabled": True, "invoice_data": {"description": "Credit", "metadata": {"purchase": "p_1"}}}
    leave: Any = {"address": "auto", "name": "auto"}
    session = open_session(client, customer=customer.id, customer_update=leave, invoice_creation=wanted, **ASKS)
    assert session.invoice is None
    answer(stripe_sandbox, session)
    done = pay(client, session)
    invoice = client.v1.invoices.retrieve(done.invoice, {"expand": ["payments"]})
    assert (invoice.status, invoice.billing_reason, invoice.metadata["purchase"]) == ("paid", "manual", "p_1")
    assert (invoice.subtotal, invoice.total, invoice.amount_paid, invoice.amount_remaining) == (
        10_000,
        11_900,
        11_900,
        0,
    )
    assert (invoice.starting_balance, invoice.ending_balance) == (0, 0)
    assert client.v1.customers.retrieve(customer.id).balance == 30
    assert invoice.payments.data[0].payment.payment_intent == done.payment_intent
    assert [line.description for line in client.v1.invoices.line_items.list(invoice.id).data] == ["Credit"]
    paid = [each for each in stripe_sandbox.event_types() if each in {"invoice.paid", "checkout.session.completed"}]
    assert paid == ["invoice.paid", "checkout.session.completed"]


def test_a_session_that_asks_for_an_invoice_makes_its_customer(client):
    done = pay(client, open_session(client, invoice_creation={"enabled": True}))
    assert client.v1.invoices.retrieve(done.invoice).customer == done.customer


@pytest.mark.parametrize(
    "fields",
    [
        {"allow_promotion_codes": True},
        {"phone_number_collection": {"enabled": True}},
        {"shipping_address_collection": {"allowed_countries": ["DE"]}},
    ],
)
def test_what_the_page_does_not_do_is_refused(stripe_sandbox, client, fields):
    before = stripe_sandbox.dump()["objects"]
    with pytest.raises(stripe.APIError) as refused:
        open_session(client, **fields)
    assert (refused.value.http_status, refused.value.error.param) == (501, next(iter(fields)))
    assert stripe_sandbox.dump()["objects"] == before
