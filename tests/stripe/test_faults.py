"""Each fault that can be switched on, and what a refused request leaves behind."""

import time
from typing import Any

import pytest
import stripe

from tests.stripe.test_judge_specification import Judge
from tests.stripe.test_webhooks import endpoint

KEY = {"Authorization": "Bearer sk_test_contract"}


@pytest.mark.parametrize(
    ("status", "kind"), [(500, stripe.APIError), (503, stripe.APIError), (429, stripe.RateLimitError)]
)
def test_requests_fail_with_the_status_asked_for(stripe_sandbox, client, status, kind):
    stripe_sandbox.faults(fail_next={"count": 1, "status": status, "method": "POST"})
    assert client.v1.customers.list().data == []
    with pytest.raises(kind) as failed:
        client.v1.customers.create()
    assert failed.value.http_status == status
    assert client.v1.customers.list().data == []
    assert client.v1.customers.create().id


def test_as_many_charges_are_declined_as_were_asked_for(stripe_sandbox, client):
    stripe_sandbox.faults(decline_next={"count": 2, "code": "expired_card"})
    params: Any = {"amount": 900, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    outcomes = []
    for _ in range(3):
        try:
            outcomes.append(client.v1.payment_intents.create({**params, "return_url": "https://x.example/"}).status)
        except stripe.CardError as declined:
            outcomes.append(str(declined.code))
    assert outcomes == ["expired_card", "expired_card", "succeeded"]


@pytest.mark.parametrize("wanted", [{"decline_next": {"code": "bored"}}, {"explode": {}}, {"webhooks": 1}])
def test_a_fault_that_does_not_exist_is_refused(stripe_sandbox, wanted):
    before = stripe_sandbox.control.get("/_sandbox/faults").json()
    assert stripe_sandbox.control.post("/_sandbox/faults", json=wanted).status_code == 400
    assert stripe_sandbox.control.get("/_sandbox/faults").json() == before


def test_an_empty_hash_ends_a_fault_and_a_reset_ends_all(stripe_sandbox, client):
    wanted: Any = {"fail_next": {"count": 9}, "decline_next": {"count": 9}, "webhooks": {"duplicate": True}}
    assert stripe_sandbox.faults(**wanted)["fail_next"]["count"] == 9
    stripe_sandbox.faults(fail_next={})
    assert client.v1.customers.create().id
    stripe_sandbox.reset()
    assert not any(stripe_sandbox.control.get("/_sandbox/faults").json().values())


def test_webhooks_can_be_delayed_on_purpose(stripe_sandbox, client, receiver):
    endpoint(client, receiver)
    stripe_sandbox.faults(webhooks={"delay_seconds": 0.5})
    client.v1.customers.create()
    time.sleep(0.2)
    assert receiver.received == []
    stripe_sandbox.flush()
    assert receiver.types() == ["customer.created"]


def test_a_refused_webhook_comes_again_by_itself_signed_anew(stripe_sandbox, client, receiver):
    secret = endpoint(client, receiver).secret
    receiver.statuses[:] = [500]
    client.v1.customers.create()
    deadline = time.monotonic() + 5
    while len(receiver.received) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    first, again = receiver.received
    for each in (first, again):
        assert stripe.Webhook.construct_event(each.body, each.headers["Stripe-Signature"], secret)
    assert first.headers["Stripe-Signature"] != again.headers["Stripe-Signature"]
    assert first.event["id"] == again.event["id"]


def test_a_repeated_webhook_is_the_same_event(stripe_sandbox, client, receiver):
    endpoint(client, receiver)
    stripe_sandbox.faults(webhooks={"duplicate": True})
    client.v1.customers.create()
    stripe_sandbox.flush()
    assert len({each.body for each in receiver.received}) == 1


def test_a_lost_webhook_is_not_sent_again(stripe_sandbox, client, receiver):
    endpoint(client, receiver)
    stripe_sandbox.faults(webhooks={"drop_next": 2})
    for _ in range(3):
        client.v1.customers.create()
    stripe_sandbox.flush()
    stripe_sandbox.flush()
    assert len(receiver.received) == 1


REFUSED = [
    ("/v1/customers", {"email": "x@customer.example", "nonsense": "1"}, "nonsense"),
    ("/v1/customers", {"balance": "many"}, "balance"),
    ("/v1/payment_intents", {"amount": "900"}, "currency"),
    ("/v1/payment_intents", {"amount": "900", "currency": "usd", "customer": "cus_none"}, "customer"),
    ("/v1/payment_intents", {"amount": "900", "currency": "xyz"}, "currency"),
    ("/v1/prices", {"currency": "usd", "product": "prod_none", "unit_amount": "1"}, "product"),
    ("/v1/subscriptions", {"customer": "CUSTOMER", "items[0][price]": "price_none"}, None),
    ("/v1/subscriptions", {"customer": "CUSTOMER"}, "items"),
    ("/v1/invoiceitems", {"customer": "CUSTOMER", "amount": "1.5"}, "amount"),
    ("/v1/invoices", {"customer": "cus_none"}, "customer"),
    ("/v1/refunds", {"payment_intent": "pi_none"}, "payment_intent"),
    ("/v1/checkout/sessions", {"mode": "payment", "success_url": "https://x.example/"}, "line_items"),
    ("/v1/billing/meter_events", {"event_name": "x", "payload[value]": "1", "timestamp": "1"}, "timestamp"),
    ("/v1/billing/credit_grants", {"customer": "CUSTOMER"}, None),
    ("/v1/tax/calculations", {"currency": "usd"}, None),
]


def held(sandbox):
    """All objects and events; the clock goes on ticking."""
    dump = sandbox.dump()
    return dump["objects"], dump["events"]


@pytest.fixture(scope="module")
def error_judge():
    return Judge().of_object("error")


@pytest.mark.parametrize(("path", "params", "param"), REFUSED)
def test_a_bad_request_gets_stripes_error_and_changes_nothing(stripe_sandbox, client, error_judge, path, params, param):
    customer = client.v1.customers.create().id
    before = held(stripe_sandbox)
    params = {name: value.replace("CUSTOMER", customer) for name, value in params.items()}
    refused = stripe_sandbox.control.post(path, data=params, headers=KEY)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["type"], bool(error["message"])) == ("invalid_request_error", True)
    assert param is None or error["param"] == param
    assert list(error_judge.iter_errors(refused.json())) == []
    assert held(stripe_sandbox) == before
