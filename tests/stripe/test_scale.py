"""How much of a year the sandbox gets through in a minute."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

CUSTOMERS = 100
METERS = 6
LIMIT_SECONDS = 60


def build(client) -> None:
    product = client.v1.products.create({"name": "Voice"})
    prices = []
    for number in range(METERS):
        meter = client.v1.billing.meters.create(
            {"display_name": f"M{number}", "event_name": f"m{number}", "default_aggregation": {"formula": "sum"}}
        )
        recurring = {"interval": "month", "meter": meter.id, "usage_type": "metered"}
        price = {"currency": "usd", "product": product.id, "unit_amount_decimal": "0.0001", "recurring": recurring}
        prices.append(client.v1.prices.create(price).id)

    def subscribe(number: int) -> None:
        customer = client.v1.customers.create({"name": f"Customer {number}"})
        method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
        items = [{"price": price} for price in prices]
        params = {"customer": customer.id, "items": items, "default_payment_method": method.id}
        client.v1.subscriptions.create(params)
        for meter in range(METERS):
            payload = {"stripe_customer_id": customer.id, "value": "50000000"}
            client.v1.billing.meter_events.create({"event_name": f"m{meter}", "payload": payload})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(subscribe, range(CUSTOMERS)))


@pytest.mark.long
def test_a_year_of_cycles_for_a_hundred_customers_takes_less_than_a_minute(stripe_sandbox, client, receiver):
    build(client)
    client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
    began = time.monotonic()
    done = stripe_sandbox.advance(370 * 86400)
    assert stripe_sandbox.flush()["undelivered"] == []
    took = time.monotonic() - began
    invoices = stripe_sandbox.dump()["objects"]["invoice"]
    assert done["jobs"]["subscription.cycle"] == len(invoices) == 12 * CUSTOMERS
    assert {invoice["status"] for invoice in invoices} == {"paid"}
    assert sum(invoice["total"] for invoice in invoices) == CUSTOMERS * METERS * 5000
    assert took < LIMIT_SECONDS
