"""A mood: a share of everything goes wrong, counted, and the same for the same seed."""

from typing import Any

import pytest
import stripe

from tests.stripe.test_webhooks import endpoint

DAY = 86400
CHARGE: Any = {
    "amount": 900, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True,
    "return_url": "https://x.example/",
}  # fmt: skip


def counted(sandbox) -> dict[str, int]:
    return sandbox.control.get("/_sandbox/faults").json()["mood"]["counted"]


def charge(client) -> str:
    try:
        return client.v1.payment_intents.create(CHARGE).status
    except stripe.CardError as declined:
        return str(declined.code)


def test_a_share_of_charges_is_declined_the_same_for_the_same_seed(stripe_sandbox, client):
    told = []
    for _ in range(2):
        stripe_sandbox.faults(mood={"seed": 3, "declined": 0.4})
        told.append([charge(client) for _ in range(20)])
        declined = sum(status != "succeeded" for status in told[-1])
        assert counted(stripe_sandbox) == {"could_be_declined": 20, "declined": declined, **calm(stripe_sandbox)}
        assert 0 < declined < 20
    assert told[0] == told[1]
    stripe_sandbox.faults(mood={})
    assert charge(client) == "succeeded"


def calm(sandbox) -> dict[str, int]:
    """What else was counted: every write may time out, and none did."""
    found = counted(sandbox)
    return {name: found[name] for name in ("could_be_timed_out", "timed_out") if name in found}


def test_a_write_that_times_out_has_had_its_effect_and_its_key_tells_it(stripe_sandbox, client):
    hasty = stripe.StripeClient(
        "sk_test_contract",
        base_addresses={"api": stripe_sandbox.url},
        http_client=stripe.RequestsClient(timeout=0.2),
        max_network_retries=0,
    )
    stripe_sandbox.faults(mood={"timed_out": 1, "timeout_seconds": 1})
    with pytest.raises(stripe.APIConnectionError):
        hasty.v1.customers.create({"name": "Once"}, {"idempotency_key": "k"})
    (made,) = hasty.v1.customers.list().data
    stripe_sandbox.faults(mood={"timed_out": 0})
    assert hasty.v1.customers.create({"name": "Once"}, {"idempotency_key": "k"}).id == made.id
    assert (counted(stripe_sandbox)["could_be_timed_out"], counted(stripe_sandbox)["timed_out"]) == (1, 0)


def test_events_come_again_and_days_late_by_the_clock_and_an_invoice_waits_for_neither(
    stripe_sandbox, client, receiver
):
    endpoint(client, receiver)
    stripe_sandbox.faults(mood={"duplicated": 0.5, "delayed": 0.5, "seed": 1})
    for number in range(20):
        client.v1.customers.create({"name": f"Customer {number}"})
    at_once = len(receiver.received)
    assert stripe_sandbox.flush()["undelivered"] == []
    assert len(receiver.received) < 20
    stripe_sandbox.advance(3 * DAY + 1)
    stripe_sandbox.flush()
    events = [each.event["id"] for each in receiver.received]
    assert len(set(events)) == 20
    found = counted(stripe_sandbox)
    assert found["delivered"] == len(events) == 20 + found["duplicated"]
    assert at_once < 20
    assert min(found["duplicated"], found["delayed"], found["reordered"]) > 0
    assert [event["pending_webhooks"] for event in stripe_sandbox.dump()["events"]] == [0] * len(
        stripe_sandbox.dump()["events"]
    )


@pytest.mark.parametrize("wanted", [{"bored": 1}, {"declined": 2}, {"declined": "much"}, {"timed_out": -1}])
def test_a_mood_that_does_not_exist_is_refused(stripe_sandbox, wanted):
    assert stripe_sandbox.control.post("/_sandbox/faults", json={"mood": wanted}).status_code == 400
    assert stripe_sandbox.control.get("/_sandbox/faults").json()["mood"] == {}
