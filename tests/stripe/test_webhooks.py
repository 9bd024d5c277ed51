"""Events on their way to an endpoint."""

import stripe

EVENTS = ["customer.created", "customer.updated", "invoice.created"]


def endpoint(client, receiver, events=("*",)) -> stripe.WebhookEndpoint:
    return client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": list(events)})


def test_an_event_arrives_signed_for_stripes_own_verifier(stripe_sandbox, client, receiver):
    secret = endpoint(client, receiver).secret
    customer = client.v1.customers.create({"email": "owner@customer.example"})
    assert stripe_sandbox.flush()["undelivered"] == []
    (received,) = receiver.received
    event = stripe.Webhook.construct_event(received.body, received.headers["Stripe-Signature"], secret)
    assert (event.type, event.data.object.id) == ("customer.created", customer.id)
    assert event.api_version == "2026-05-27.dahlia"


def test_an_endpoint_gets_the_types_it_asked_for(stripe_sandbox, client, receiver):
    endpoint(client, receiver, ["customer.updated"])
    customer = client.v1.customers.create({"name": "Before"})
    client.v1.customers.update(customer.id, {"name": "After"})
    stripe_sandbox.flush()
    (received,) = receiver.received
    assert received.event["data"]["previous_attributes"] == {"name": "Before"}
    assert received.event["data"]["object"]["name"] == "After"


def test_a_refused_event_is_sent_again(stripe_sandbox, client, receiver):
    endpoint(client, receiver)
    receiver.statuses[:] = [500, 503]
    client.v1.customers.create()
    assert stripe_sandbox.flush()["undelivered"] == []
    assert receiver.types() == ["customer.created"] * 3
    assert len({each.event["id"] for each in receiver.received}) == 1


def test_an_endpoint_that_is_down_is_reported_by_flush(stripe_sandbox, client, receiver):
    endpoint(client, receiver)
    receiver.statuses[:] = [500] * 50
    client.v1.customers.create()
    (left,) = stripe_sandbox.flush()["undelivered"]
    assert (left["type"], left["error"]) == ("customer.created", "HTTP 500")
    receiver.statuses.clear()
    assert stripe_sandbox.flush()["undelivered"] == []


def test_pending_webhooks_counts_down(stripe_sandbox, client, receiver):
    endpoint(client, receiver)
    client.v1.customers.create()
    stripe_sandbox.flush()
    (event,) = client.v1.events.list({"type": "customer.created"}).data
    assert event.pending_webhooks == 0


def test_webhooks_can_be_repeated_on_purpose(stripe_sandbox, client, receiver):
    endpoint(client, receiver)
    stripe_sandbox.faults(webhooks={"duplicate": True})
    client.v1.customers.create()
    stripe_sandbox.flush()
    assert receiver.types() == ["customer.created"] * 2


def test_webhooks_can_be_lost_on_purpose(stripe_sandbox, client, receiver):
    endpoint(client, receiver)
    stripe_sandbox.faults(webhooks={"drop_next": 1})
    client.v1.customers.create()
    client.v1.products.create({"name": "Heard of"})
    stripe_sandbox.flush()
    assert receiver.types() == ["product.created"]
    assert [e.type for e in client.v1.events.list().data] == ["product.created", "customer.created"]


def test_webhooks_can_be_shuffled_on_purpose(stripe_sandbox, client, receiver):
    endpoint(client, receiver, ["customer.created"])
    stripe_sandbox.faults(webhooks={"reorder": True})
    made = [client.v1.customers.create().id for _ in range(16)]
    stripe_sandbox.flush()
    arrived = [each.event["data"]["object"]["id"] for each in receiver.received]
    assert arrived != made
    assert sorted(arrived) == sorted(made)


def test_a_refused_request_sends_nothing(stripe_sandbox, client, receiver):
    endpoint(client, receiver)
    for params in ({"nonsense": 1}, {"payment_method": "pm_none"}):
        try:
            client.v1.customers.create(params)
        except stripe.InvalidRequestError:
            continue
        raise AssertionError("the request was meant to be refused")
    assert stripe_sandbox.flush()["undelivered"] == []
    assert receiver.received == []


def test_an_unacknowledged_draft_is_not_finalised_within_the_hour(stripe_sandbox, client, receiver, metered):
    endpoint(client, receiver)
    receiver.statuses[:] = [500] * 1000
    stripe_sandbox.advance_to(metered.period_end + 2 * 3600)
    (invoice,) = client.v1.invoices.list({"customer": metered.customer.id}).data
    assert invoice.status == "draft"
    stripe_sandbox.advance(72 * 3600)
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"


def test_an_acknowledgement_starts_the_hour(stripe_sandbox, client, receiver, metered):
    endpoint(client, receiver)
    stripe_sandbox.advance_to(metered.period_end + 1)
    stripe_sandbox.flush()
    stripe_sandbox.advance(3700)
    (invoice,) = client.v1.invoices.list({"customer": metered.customer.id}).data
    assert invoice.status == "paid"
