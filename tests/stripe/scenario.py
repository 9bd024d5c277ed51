"""One of everything: a sandbox full of the objects and events that the judges then look at."""

from typing import Any

import stripe

from tests.stripe.conftest import RunningSandbox, metered_customer, report

RETURN = {"return_url": "https://portal.example/"}


def play(sandbox: RunningSandbox) -> None:
    """Make every kind of object at least once, in the states the portal meets."""
    client = sandbox.client
    client.v1.accounts.retrieve_current()
    _cards(sandbox, client)
    _invoices(sandbox, client)
    _checkout(sandbox, client)
    _extras(client)


def _cards(sandbox: RunningSandbox, client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create(
        {
            "email": "owner@customer.example",
            "address": {"country": "DE", "city": "Berlin", "line1": "Straße 1", "postal_code": "10115"},
            "tax_id_data": [{"type": "eu_vat", "value": "DE123456789"}],
        }
    )
    saved = {"customer": customer.id, "confirm": True, **RETURN}
    for name in ("pm_card_visa", "pm_card_authenticationRequired", "pm_card_mastercard_prepaid"):
        client.v1.setup_intents.create(saved | {"payment_method": name})
    charged = saved | {"amount": 2_000, "currency": "usd"}
    intent = client.v1.payment_intents.create(charged | {"payment_method": "pm_card_visa"})
    client.v1.refunds.create({"payment_intent": intent.id, "amount": 500})
    client.v1.payment_intents.create(charged | {"payment_method": "pm_card_createDispute"})
    client.v1.payment_intents.create(charged | {"payment_method": "pm_card_authenticationRequired"})
    for name in ("pm_card_chargeDeclined", "pm_card_radarBlock"):
        try:
            client.v1.payment_intents.create(charged | {"payment_method": name})
        except stripe.CardError:
            continue
        raise AssertionError(f"{name} was not declined")
    held = client.v1.payment_intents.create(
        charged | {"payment_method": "pm_card_visa", "capture_method": "manual", "amount": 3_000}
    )
    client.v1.payment_intents.capture(held.id)
    link = client.v1.payment_methods.create({"type": "link", "billing_details": {"email": "owner@customer.example"}})
    client.v1.payment_methods.attach(link.id, {"customer": customer.id})
    components: Any = {"payment_element": {"enabled": True}}
    client.v1.customer_sessions.create({"customer": customer.id, "components": components})
    client.v1.billing_portal.sessions.create({"customer": customer.id})


def _invoices(sandbox: RunningSandbox, client: stripe.StripeClient) -> None:
    good = metered_customer(client)
    bad = metered_customer(client, card="pm_card_chargeCustomerFail")
    client.v1.customers.update(good.customer.id, {"address": {"country": "FR"}})
    client.v1.subscriptions.update(good.subscription.id, {"automatic_tax": {"enabled": True}})
    for each in (good, bad):
        report(client, each, 5_000_000)
    sandbox.advance_to(max(good.period_end, bad.period_end) + 1)
    (draft,) = client.v1.invoices.list({"customer": good.customer.id}).data
    client.v1.invoice_items.create({"customer": good.customer.id, "invoice": draft.id, "amount": -1_000})
    sandbox.advance(3_700)
    (invoice,) = client.v1.invoices.list({"customer": good.customer.id}).data
    client.v1.credit_notes.create({"invoice": invoice.id, "amount": 100, "refund_amount": 100})
    client.v1.credit_notes.create({"invoice": invoice.id, "amount": 100, "credit_amount": 100})
    client.v1.invoice_items.create({"customer": good.customer.id, "amount": 250, "currency": "usd"})
    report(client, good, 5_000_000)
    sandbox.advance(33 * 86400)
    (_, failed) = client.v1.invoices.list({"customer": bad.customer.id}).data
    client.v1.invoices.void_invoice(failed.id)
    client.v1.subscriptions.cancel(bad.subscription.id)


def _checkout(sandbox: RunningSandbox, client: stripe.StripeClient) -> None:
    product: Any = {"currency": "usd", "unit_amount": 5_000, "product_data": {"name": "Credit"}}
    items: Any = [{"price_data": product, "quantity": 1}]
    urls: Any = {"success_url": "https://portal.example/"}
    paid = client.v1.checkout.sessions.create({"mode": "payment", "line_items": items, **urls})
    confirm: Any = {"payment_method": "pm_card_visa", **RETURN}
    client.v1.payment_intents.confirm(str(paid.payment_intent), confirm)
    client.v1.checkout.sessions.create({"mode": "setup", "currency": "usd", **urls})
    abroad: Any = {"customer_email": "owner+location_FR@customer.example", "line_items": items, **urls}
    local = client.v1.checkout.sessions.create({"mode": "payment", **abroad})
    client.v1.payment_intents.confirm(str(local.payment_intent), confirm)
    client.v1.refunds.create({"payment_intent": str(local.payment_intent), "amount": 1_000})
    asks: Any = {"automatic_tax": {"enabled": True}, "tax_id_collection": {"enabled": True}}
    sold: Any = {**product, "recurring": {"interval": "month"}}
    begun = client.v1.checkout.sessions.create(
        {"mode": "subscription", **abroad, "line_items": [{"price_data": sold, "quantity": 1}], **asks}
    )
    form = {"name": "ACME", "country": "FR", "line1": "1 rue", "postal_code": "75001", "city": "Paris"}
    typed = sandbox.control.post(f"/c/pay/{begun.id}/details", data={**form, "tax_id": "FR12345678901"})
    assert typed.status_code == 303, typed.text
    client.v1.setup_intents.confirm(str(begun.setup_intent), confirm)


def _extras(client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"name": "Credited"})
    amount: Any = {"type": "monetary", "monetary": {"currency": "usd", "value": 600}}
    scope: Any = {"scope": {"price_type": "metered"}}
    grant = {"customer": customer.id, "amount": amount, "applicability_config": scope, "category": "paid"}
    client.v1.billing.credit_grants.create(grant)
    client.v1.customers.balance_transactions.create(customer.id, {"amount": -50, "currency": "usd"})
    coupon = client.v1.coupons.create({"percent_off": 10, "duration": "once"})
    client.v1.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon.id}, "code": "TEN"})
    client.v1.tax_rates.create({"display_name": "VAT", "percentage": 19, "inclusive": False})
    client.v1.radar.value_lists.create({"alias": "trusted", "name": "Trusted"})
    calculation: Any = {
        "currency": "usd",
        "customer_details": {"address": {"country": "DE"}, "address_source": "billing"},
        "line_items": [{"amount": 1_000, "reference": "x"}],
    }
    client.v1.tax.calculations.create(calculation)
    product = client.v1.products.create({"name": "Tiered"})
    tiers: Any = [{"up_to": 10, "unit_amount": 100}, {"up_to": "inf", "unit_amount": 50}]
    price: Any = {"product": product.id, "currency": "usd", "billing_scheme": "tiered", "tiers_mode": "graduated"}
    client.v1.prices.create({**price, "tiers": tiers, "recurring": {"interval": "month"}})
    gone = client.v1.customers.create({"name": "Gone"})
    client.v1.customers.delete(gone.id)
