"""Saving cards and charging them, by Stripe's documented test numbers."""

import pytest
import stripe

TYPES = {"automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}
RETURN = {"return_url": "https://portal.example/done"}


@pytest.fixture
def customer(client) -> stripe.Customer:
    return client.v1.customers.create({"email": "owner@customer.example"})


def card_form(number: str, **fields: str) -> dict[str, str]:
    card = {"number": number, "exp_month": "12", "exp_year": "34", "cvc": "123"}
    form = {"payment_method_data[type]": "card"}
    return form | {f"payment_method_data[card][{name}]": value for name, value in card.items()} | fields


def confirm_in_browser(sandbox, intent, number: str, **fields: str):
    form = card_form(number, client_secret=intent.client_secret, **fields)
    kind = "setup_intents" if intent.object == "setup_intent" else "payment_intents"
    return sandbox.browser("POST", f"/v1/{kind}/{intent.id}/confirm", form)


def charge(client, customer, method, **fields):
    params = {"amount": 2000, "currency": "usd", "customer": customer.id, "payment_method": method, "confirm": True}
    return client.v1.payment_intents.create(params | RETURN | fields)


def test_a_setup_intent_saves_the_card_a_browser_sends(stripe_sandbox, client, customer):
    intent = client.v1.setup_intents.create({"customer": customer.id, "usage": "off_session"})
    answer = confirm_in_browser(stripe_sandbox, intent, "4242424242424242")
    assert answer.json()["status"] == "succeeded"
    (saved,) = client.v1.customers.payment_methods.list(customer.id).data
    assert (saved.card.brand, saved.card.last4, saved.card.funding) == ("visa", "4242", "credit")
    done = client.v1.setup_intents.retrieve(intent.id, {"expand": ["mandate", "latest_attempt"]})
    assert (done.mandate.status, done.latest_attempt.status) == ("active", "succeeded")


def test_a_browser_needs_the_right_secret(stripe_sandbox, client, customer):
    intent = client.v1.setup_intents.create({"customer": customer.id})
    for secret in ("", intent.client_secret[:-1], f"{intent.id}_secret_x"):
        answer = stripe_sandbox.browser("GET", f"/v1/setup_intents/{intent.id}", {"client_secret": secret})
        assert answer.status_code == 400
    answer = stripe_sandbox.browser("GET", f"/v1/setup_intents/{intent.id}", {"client_secret": intent.client_secret})
    assert answer.json()["id"] == intent.id


def test_a_publishable_key_reaches_nothing_else(stripe_sandbox, customer):
    assert stripe_sandbox.browser("GET", f"/v1/customers/{customer.id}", {}).status_code == 403


def test_a_prepaid_card_says_so(client, customer):
    method = client.v1.payment_methods.attach("pm_card_mastercard_prepaid", {"customer": customer.id})
    assert method.card.funding == "prepaid"


def test_the_same_number_has_the_same_fingerprint(client, customer):
    other = client.v1.customers.create()
    prints = {
        client.v1.payment_methods.attach("pm_card_visa", {"customer": each.id}).card.fingerprint
        for each in (customer, other)
    }
    assert len(prints) == 1
    assert client.v1.payment_methods.attach("pm_card_amex", {"customer": other.id}).card.fingerprint not in prints


@pytest.mark.parametrize(
    ("name", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
        ("pm_card_radarBlock", "card_declined", "fraudulent"),
    ],
)
def test_declines_have_stripes_codes(client, customer, name, code, decline_code):
    with pytest.raises(stripe.CardError) as refused:
        charge(client, customer, name)
    error = refused.value
    assert (error.http_status, error.code, error.error.decline_code) == (402, code, decline_code)
    failed = client.v1.payment_intents.retrieve(error.error.payment_intent.id, {"expand": ["latest_charge"]})
    assert (failed.status, failed.latest_charge.status) == ("requires_payment_method", "failed")
    assert failed.last_payment_error.decline_code == decline_code


def test_a_declined_card_cannot_be_saved(client, customer):
    with pytest.raises(stripe.CardError):
        client.v1.payment_methods.attach("pm_card_visa_chargeDeclined", {"customer": customer.id})
    assert client.v1.customers.payment_methods.list(customer.id).data == []


def test_one_card_can_be_saved_but_not_charged(client, customer):
    method = client.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer.id})
    with pytest.raises(stripe.CardError):
        charge(client, customer, method.id, off_session=True)


def test_3d_secure_is_asked_for_once_when_a_card_is_saved(stripe_sandbox, client, customer):
    intent = client.v1.setup_intents.create({"customer": customer.id})
    answer = confirm_in_browser(stripe_sandbox, intent, "4000002500003155", **RETURN).json()
    assert answer["status"] == "requires_action"
    assert answer["next_action"]["redirect_to_url"]["url"].startswith(stripe_sandbox.url)
    stripe_sandbox.control.post("/_sandbox/authenticate", json={"intent": intent.id, "outcome": "succeed"})
    saved = client.v1.setup_intents.retrieve(intent.id)
    assert saved.status == "succeeded"
    assert charge(client, customer, saved.payment_method, off_session=True).status == "succeeded"


def test_a_failed_challenge_saves_nothing(stripe_sandbox, client, customer):
    intent = client.v1.setup_intents.create({"customer": customer.id})
    confirm_in_browser(stripe_sandbox, intent, "4000002760003184", **RETURN)
    stripe_sandbox.control.post("/_sandbox/authenticate", json={"intent": intent.id, "outcome": "fail"})
    failed = client.v1.setup_intents.retrieve(intent.id)
    assert failed.status == "requires_payment_method"
    assert failed.last_setup_error.code == "setup_intent_authentication_failure"
    assert client.v1.customers.payment_methods.list(customer.id).data == []


def test_a_card_that_always_asks_is_refused_off_session(client, customer):
    with pytest.raises(stripe.CardError) as refused:
        charge(client, customer, "pm_card_authenticationRequired", off_session=True)
    assert refused.value.code == "authentication_required"


def test_a_card_that_always_asks_waits_for_its_owner_on_session(stripe_sandbox, client, customer):
    intent = charge(client, customer, "pm_card_authenticationRequired")
    assert intent.status == "requires_action"
    stripe_sandbox.control.post("/_sandbox/authenticate", json={"intent": intent.id, "outcome": "succeed"})
    assert client.v1.payment_intents.retrieve(intent.id).status == "succeeded"


def test_a_card_expires_with_the_clock(stripe_sandbox, client, customer):
    method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    stripe_sandbox.advance(800 * 86400)
    with pytest.raises(stripe.CardError) as refused:
        charge(client, customer, method.id, off_session=True)
    assert refused.value.code == "expired_card"


def test_link_can_be_saved_and_charged(stripe_sandbox, client, customer):
    intent = client.v1.setup_intents.create({"customer": customer.id, **TYPES})
    form = {
        "client_secret": intent.client_secret,
        "payment_method_data[type]": "link",
        "payment_method_data[billing_details][email]": "owner@customer.example",
    }
    answer = stripe_sandbox.browser("POST", f"/v1/setup_intents/{intent.id}/confirm", form).json()
    assert answer["status"] == "succeeded"
    (saved,) = client.v1.customers.payment_methods.list(customer.id, {"type": "link"}).data
    assert saved.link.email == "owner@customer.example"
    assert charge(client, customer, saved.id, off_session=True).status == "succeeded"


def test_a_detached_card_cannot_be_used_again(client, customer):
    method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    client.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": method.id}})
    client.v1.payment_methods.detach(method.id)
    assert client.v1.customers.retrieve(customer.id).invoice_settings.default_payment_method is None
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_methods.attach(method.id, {"customer": customer.id})


def test_a_card_of_another_customer_is_refused(client, customer):
    other = client.v1.customers.create()
    method = client.v1.payment_methods.attach("pm_card_visa", {"customer": other.id})
    with pytest.raises(stripe.InvalidRequestError, match="does not belong"):
        charge(client, customer, method.id)


def test_refunds_never_exceed_the_payment(client, customer):
    intent = charge(client, customer, "pm_card_visa")
    client.v1.refunds.create({"payment_intent": intent.id, "amount": 1500})
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded"):
        client.v1.refunds.create({"payment_intent": intent.id, "amount": 501})
    client.v1.refunds.create({"payment_intent": intent.id})
    done = client.v1.charges.retrieve(intent.latest_charge)
    assert (done.refunded, done.amount_refunded) == (True, 2000)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"payment_intent": intent.id})
    assert refused.value.code == "charge_already_refunded"


def test_amounts_under_the_minimum_are_refused(client, customer):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        charge(client, customer, "pm_card_visa", amount=49)
    assert refused.value.code == "amount_too_small"


def test_the_next_charges_can_be_declined_on_purpose(stripe_sandbox, client, customer):
    stripe_sandbox.faults(decline_next={"count": 1, "code": "insufficient_funds"})
    with pytest.raises(stripe.CardError) as refused:
        charge(client, customer, "pm_card_visa")
    assert refused.value.error.decline_code == "insufficient_funds"
    assert charge(client, customer, "pm_card_visa").status == "succeeded"
