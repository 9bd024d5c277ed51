"""What quantities cost: tiers, packages, currencies, prorations, and tax in small units."""

from typing import Any

import pytest
import stripe

from tests.stripe.conftest import metered_customer, report

MONTH: Any = {"interval": "month"}
TIERS: Any = [{"up_to": 10, "unit_amount": 100, "flat_amount": 50}, {"up_to": "inf", "unit_amount": 20}]


def subscribe(client, price, quantity: int = 1, **fields: Any):
    """A subscription to a licensed price, paid with a card, and its first invoice."""
    customer = client.v1.customers.create()
    method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    items: Any = [{"price": price.id, "quantity": quantity}]
    params: Any = {"customer": customer.id, "items": items, "default_payment_method": method.id, **fields}
    subscription = client.v1.subscriptions.create(params)
    return subscription, client.v1.invoices.retrieve(subscription.latest_invoice)


def licensed(client, **fields: Any) -> stripe.Price:
    product = client.v1.products.create({"name": "Seat"})
    return client.v1.prices.create({"currency": "usd", "product": product.id, "recurring": MONTH, **fields})


@pytest.mark.parametrize(
    ("mode", "quantity", "total"),
    [("graduated", 10, 1_050), ("graduated", 15, 1_150), ("volume", 10, 1_050), ("volume", 15, 300)],
)
def test_tiers_are_graduated_or_by_volume(client, mode, quantity, total):
    price = licensed(client, billing_scheme="tiered", tiers_mode=mode, tiers=TIERS)
    assert subscribe(client, price, quantity)[1].total == total


@pytest.mark.parametrize(("up", "total"), [("up", 3_000), ("down", 2_000)])
def test_a_package_is_whole(client, up, total):
    price = licensed(client, unit_amount=1_000, transform_quantity={"divide_by": 10, "round": up})
    assert subscribe(client, price, 25)[1].total == total


def test_a_subscription_is_billed_in_a_currency_its_price_has(client):
    price = licensed(client, unit_amount=1_000, currency_options={"eur": {"unit_amount": 900}})
    first = subscribe(client, price, 2, currency="eur")[1]
    assert (first.currency, first.total) == ("eur", 1_800)
    with pytest.raises(stripe.InvalidRequestError):
        subscribe(client, price, currency="gbp")


@pytest.mark.parametrize(
    ("currency", "value", "total"), [("jpy", 1_500, 2), ("jpy", 12_345_678, 12_346), ("kwd", 12_340_000, 12_340)]
)
def test_usage_is_billed_in_the_currencys_own_minor_units(stripe_sandbox, client, currency, value, total):
    metered = metered_customer(client, currency=currency)
    report(client, metered, value)
    stripe_sandbox.advance_to(metered.period_end + 1)
    (invoice,) = client.v1.invoices.list({"customer": metered.customer.id}).data
    assert (invoice.currency, invoice.total) == (currency, total)
    stripe_sandbox.advance(3_600)
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"


def test_tax_on_yen_is_rounded_half_up(client):
    customer = client.v1.customers.create({"address": {"country": "JP"}})
    invoice = client.v1.invoices.create(
        {"customer": customer.id, "currency": "jpy", "automatic_tax": {"enabled": True}}
    )
    for amount in (1_005, 1_004):
        client.v1.invoice_items.create({"customer": customer.id, "invoice": invoice.id, "amount": amount})
    found = client.v1.invoices.retrieve(invoice.id)
    assert [line.taxes[0].amount for line in found.lines.data] in ([101, 100], [100, 101])
    assert found.total == 2_009 + 201


def test_a_change_is_prorated_on_the_next_invoice_to_the_second(stripe_sandbox, client):
    subscription, _ = subscribe(client, licensed(client, unit_amount=3_000))
    item = subscription["items"].data[0]
    length = item.current_period_end - item.current_period_start
    stripe_sandbox.advance_to(item.current_period_start + length // 3)
    client.v1.subscription_items.update(item.id, {"quantity": 3})
    stripe_sandbox.advance_to(item.current_period_end + 3_600)
    latest = client.v1.invoices.list({"subscription": subscription.id}).data[0]
    amounts = sorted(line.amount for line in latest.lines.data)
    assert amounts == [-2_000, 6_000, 9_000]
    assert (latest.status, latest.total) == ("paid", 13_000)


def test_a_change_without_proration_counts_from_the_next_period(stripe_sandbox, client):
    subscription, _ = subscribe(client, licensed(client, unit_amount=3_000))
    item = subscription["items"].data[0]
    client.v1.subscription_items.update(item.id, {"quantity": 2, "proration_behavior": "none"})
    stripe_sandbox.advance_to(item.current_period_end + 3_600)
    assert client.v1.invoices.list({"subscription": subscription.id}).data[0].total == 6_000


def test_usage_of_an_item_goes_with_it(stripe_sandbox, client, metered):
    report(client, metered, 1_000_000)
    (item,) = metered.subscription["items"].data
    recurring: Any = {"interval": "month", "meter": metered.meter.id, "usage_type": "metered"}
    other = client.v1.prices.create(
        {"currency": "usd", "product": metered.price.product, "unit_amount_decimal": "0.002", "recurring": recurring}
    )
    stripe_sandbox.advance(60)
    client.v1.subscription_items.update(item.id, {"price": other.id})
    report(client, metered, 500_000)
    stripe_sandbox.advance_to(metered.period_end + 1)
    (invoice,) = client.v1.invoices.list({"customer": metered.customer.id}).data
    assert invoice.total == 1_000
