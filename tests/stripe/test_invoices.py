"""Metered subscriptions and the invoices they end in."""

import time

import pytest
import stripe

from tests.stripe.conftest import Metered, metered_customer, report

HOUR = 3600
WHOLE_MONTH = 32 * 86400


def only_invoice(client: stripe.StripeClient, metered: Metered) -> stripe.Invoice:
    (invoice,) = client.v1.invoices.list({"customer": metered.customer.id}).data
    return invoice


def to_draft(sandbox, client, metered: Metered, value: int) -> stripe.Invoice:
    """Report usage and go to the end of the period."""
    if value:
        report(client, metered, value)
    sandbox.advance_to(metered.period_end + 1)
    return only_invoice(client, metered)


def test_a_period_ends_in_a_draft_with_its_usage(stripe_sandbox, client, metered):
    invoice = to_draft(stripe_sandbox, client, metered, 1_234_567)
    assert (invoice.status, invoice.billing_reason, invoice.total) == ("draft", "subscription_cycle", 1235)
    (line,) = invoice.lines.data
    assert (line.quantity, line.amount, line.period.end) == (1_234_567, 1235, metered.period_end)
    assert line.parent.subscription_item_details.subscription == metered.subscription.id


def test_a_draft_goes_on_counting_events_stamped_in_its_period(stripe_sandbox, client, metered):
    invoice = to_draft(stripe_sandbox, client, metered, 1_000_000)
    report(client, metered, 500_000, timestamp=metered.period_end - 60)
    report(client, metered, 900_000, timestamp=metered.period_end + 1)
    time.sleep(0.3)
    assert client.v1.invoices.retrieve(invoice.id).total == 1500


def test_a_draft_is_finalised_and_charged_an_hour_later(stripe_sandbox, client, metered):
    invoice = to_draft(stripe_sandbox, client, metered, 1_000_000)
    stripe_sandbox.advance(HOUR - 10)
    assert client.v1.invoices.retrieve(invoice.id).status == "draft"
    stripe_sandbox.advance(10)
    paid = client.v1.invoices.retrieve(invoice.id)
    assert (paid.status, paid.amount_paid, paid.attempt_count) == ("paid", 1000, 1)
    assert paid.number.endswith("-0001")


def test_a_draft_that_must_not_advance_stays_a_draft(stripe_sandbox, client, metered):
    invoice = to_draft(stripe_sandbox, client, metered, 1_000_000)
    client.v1.invoices.update(invoice.id, {"auto_advance": False})
    stripe_sandbox.advance(10 * 86400)
    assert client.v1.invoices.retrieve(invoice.id).status == "draft"


def test_usage_stamped_in_a_finalised_period_is_lost(stripe_sandbox, client, metered):
    invoice = to_draft(stripe_sandbox, client, metered, 1_000_000)
    stripe_sandbox.advance(HOUR)
    report(client, metered, 700_000, timestamp=metered.period_end - 60)
    stripe_sandbox.advance(WHOLE_MONTH)
    later, first = client.v1.invoices.list({"customer": metered.customer.id}).data
    assert (first.id, first.total, later.total) == (invoice.id, 1000, 0)


def test_usage_from_before_an_item_was_added_is_not_billed(stripe_sandbox, client, metered):
    meter = client.v1.billing.meters.create(
        {"display_name": "Late", "event_name": "late", "default_aggregation": {"formula": "sum"}}
    )
    payload = {"stripe_customer_id": metered.customer.id, "value": "5000000"}
    client.v1.billing.meter_events.create({"event_name": "late", "payload": payload})
    price = client.v1.prices.create(
        {
            "currency": "usd",
            "product": metered.price.product,
            "unit_amount_decimal": "0.001",
            "recurring": {"interval": "month", "meter": meter.id, "usage_type": "metered"},
        }
    )
    stripe_sandbox.advance(60)
    client.v1.subscription_items.create({"subscription": metered.subscription.id, "price": price.id})
    client.v1.billing.meter_events.create({"event_name": "late", "payload": payload | {"value": "200000"}})
    assert to_draft(stripe_sandbox, client, metered, 0).total == 200


def test_each_line_is_rounded_half_up(stripe_sandbox, client):
    for value, amount in ((499, 0), (500, 1), (501, 1), (1500, 2), (2500, 3)):
        metered = metered_customer(client)
        assert to_draft(stripe_sandbox, client, metered, value).lines.data[0].amount == amount


def test_a_negative_cycle_bills_nothing(stripe_sandbox, client, metered):
    invoice = to_draft(stripe_sandbox, client, metered, -5_000_000)
    assert invoice.total == 0


def test_credit_lines_that_cover_everything_give_exactly_zero(stripe_sandbox, client, metered):
    invoice = to_draft(stripe_sandbox, client, metered, 1_234_567)
    client.v1.invoice_items.create(
        {
            "customer": metered.customer.id,
            "invoice": invoice.id,
            "amount": -1235,
            "currency": "usd",
            "description": "Welcome credit",
        }
    )
    done = client.v1.invoices.finalize_invoice(invoice.id)
    assert (done.status, done.total, done.amount_due) == ("paid", 0, 0)
    assert client.v1.customers.retrieve(metered.customer.id).balance == 0


def test_a_total_under_the_minimum_moves_to_the_balance(stripe_sandbox, client, metered):
    invoice = to_draft(stripe_sandbox, client, metered, 49_000)
    done = client.v1.invoices.finalize_invoice(invoice.id)
    assert (done.status, done.total, done.amount_due, done.ending_balance) == ("paid", 49, 0, 49)
    (entry,) = client.v1.customers.balance_transactions.list(metered.customer.id).data
    assert (entry.type, entry.amount, entry.invoice) == ("invoice_too_small", 49, invoice.id)


def test_a_negative_total_becomes_credit_for_the_next_invoice(stripe_sandbox, client, metered):
    invoice = to_draft(stripe_sandbox, client, metered, 100_000)
    client.v1.invoice_items.create({"customer": metered.customer.id, "invoice": invoice.id, "amount": -400})
    client.v1.invoices.finalize_invoice(invoice.id)
    assert client.v1.customers.retrieve(metered.customer.id).balance == -300
    report(client, metered, 1_000_000)
    stripe_sandbox.advance(WHOLE_MONTH)
    latest = client.v1.invoices.list({"customer": metered.customer.id}).data[0]
    assert (latest.total, latest.amount_due, latest.amount_paid) == (1000, 700, 700)


def test_a_declined_charge_leaves_the_subscription_past_due_and_is_retried(stripe_sandbox, client):
    metered = metered_customer(client, card="pm_card_chargeCustomerFail")
    invoice = to_draft(stripe_sandbox, client, metered, 1_000_000)
    stripe_sandbox.advance(HOUR)
    failed = client.v1.invoices.retrieve(invoice.id)
    assert (failed.status, failed.attempt_count) == ("open", 1)
    assert failed.next_payment_attempt > stripe_sandbox.timestamp()
    assert client.v1.subscriptions.retrieve(metered.subscription.id).status == "past_due"
    good = client.v1.payment_methods.attach("pm_card_visa", {"customer": metered.customer.id})
    client.v1.subscriptions.update(metered.subscription.id, {"default_payment_method": good.id})
    stripe_sandbox.advance_to(failed.next_payment_attempt + 1)
    paid = client.v1.invoices.retrieve(invoice.id)
    assert (paid.status, paid.attempt_count, paid.next_payment_attempt) == ("paid", 2, None)
    assert client.v1.subscriptions.retrieve(metered.subscription.id).status == "active"


def test_smart_retries_end_after_two_weeks(stripe_sandbox, client):
    metered = metered_customer(client, card="pm_card_chargeCustomerFail")
    invoice = to_draft(stripe_sandbox, client, metered, 1_000_000)
    stripe_sandbox.advance(20 * 86400)
    failed = client.v1.invoices.retrieve(invoice.id)
    assert (failed.status, failed.attempt_count, failed.next_payment_attempt) == ("open", 9, None)


def test_after_a_hard_decline_only_another_card_is_tried(stripe_sandbox, client, metered):
    invoice = to_draft(stripe_sandbox, client, metered, 1_000_000)
    stripe_sandbox.faults(decline_next={"count": 1, "code": "stolen_card"})
    stripe_sandbox.advance(5 * 86400)
    refused = client.v1.invoices.retrieve(invoice.id)
    assert (refused.status, refused.attempt_count) == ("open", 1)
    assert refused.next_payment_attempt > stripe_sandbox.timestamp()
    other = client.v1.payment_methods.attach("pm_card_mastercard", {"customer": metered.customer.id})
    client.v1.subscriptions.update(metered.subscription.id, {"default_payment_method": other.id})
    stripe_sandbox.advance_to(refused.next_payment_attempt + 1)
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"


def test_paying_with_a_declined_card_raises_a_card_error(stripe_sandbox, client):
    metered = metered_customer(client, card="pm_card_chargeCustomerFail")
    invoice = to_draft(stripe_sandbox, client, metered, 1_000_000)
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})
    with pytest.raises(stripe.CardError) as refused:
        client.v1.invoices.pay(invoice.id)
    assert (refused.value.code, refused.value.error.decline_code) == ("card_declined", "generic_decline")
    assert client.v1.invoices.retrieve(invoice.id).attempt_count == 1


def test_an_invoice_waits_for_the_owner_of_a_card_that_always_asks(stripe_sandbox, client):
    metered = metered_customer(client, card="pm_card_authenticationRequired")
    invoice = to_draft(stripe_sandbox, client, metered, 1_000_000)
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})
    with pytest.raises(stripe.CardError) as refused:
        client.v1.invoices.pay(invoice.id, {"off_session": True})
    assert refused.value.code == "invoice_payment_intent_requires_action"
    intent = refused.value.error.payment_intent
    assert intent.status == "requires_action"
    assert "invoice.payment_action_required" in stripe_sandbox.event_types()
    stripe_sandbox.control.post("/_sandbox/authenticate", json={"intent": intent.id, "outcome": "succeed"})
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"


def test_an_invoice_can_be_paid_in_the_browser_by_its_secret(stripe_sandbox, client):
    metered = metered_customer(client, card="pm_card_chargeCustomerFail")
    invoice = to_draft(stripe_sandbox, client, metered, 1_000_000)
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})
    found = client.v1.invoices.retrieve(invoice.id, {"expand": ["confirmation_secret"]})
    secret = found.confirmation_secret.client_secret
    path = f"/v1/payment_intents/{secret.split('_secret_')[0]}/confirm"
    card = {"[type]": "card", "[card][number]": "4242424242424242", "[card][exp_month]": "12", "[card][exp_year]": "34"}
    form = {f"payment_method_data{name}": value for name, value in card.items()} | {"client_secret": secret}
    assert stripe_sandbox.browser("POST", path, form).json()["status"] == "succeeded"
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"


def test_voiding_cancels_the_payment(stripe_sandbox, client, metered):
    invoice = to_draft(stripe_sandbox, client, metered, 1_000_000)
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})
    assert client.v1.invoices.void_invoice(invoice.id).status == "void"
    found = client.v1.invoices.retrieve(invoice.id, {"expand": ["payments.data.payment.payment_intent"]})
    (payment,) = found.payments.data
    assert (payment.status, payment.payment.payment_intent.status) == ("canceled", "canceled")


def test_an_open_invoice_can_be_given_up_and_still_be_paid(stripe_sandbox, client, metered):
    invoice = to_draft(stripe_sandbox, client, metered, 1_000_000)
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})
    assert client.v1.invoices.mark_uncollectible(invoice.id).status == "uncollectible"
    assert client.v1.invoices.pay(invoice.id).status == "paid"


def test_a_finalised_invoice_takes_no_more_items(stripe_sandbox, client, metered):
    invoice = to_draft(stripe_sandbox, client, metered, 1_000_000)
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.invoice_items.create({"customer": metered.customer.id, "invoice": invoice.id, "amount": 5})
    assert refused.value.code == "invoice_not_editable"


def test_an_invoice_takes_at_most_250_items_and_pages_its_lines(stripe_sandbox, client, metered):
    invoice = to_draft(stripe_sandbox, client, metered, 0)
    params = {"customer": metered.customer.id, "invoice": invoice.id, "amount": 1}
    for _ in range(250):
        client.v1.invoice_items.create(params)
    with pytest.raises(stripe.InvalidRequestError, match="at most 250"):
        client.v1.invoice_items.create(params)
    found = client.v1.invoices.retrieve(invoice.id)
    assert (len(found.lines.data), found.lines.has_more, found.total) == (10, True, 250)
    lines = list(client.v1.invoices.line_items.list(invoice.id, {"limit": 100}).auto_paging_iter())
    assert (len(lines), sum(line.amount for line in lines)) == (251, 250)


def test_a_subscription_takes_at_most_20_items(client, metered):
    prices = [
        client.v1.prices.create(
            {"currency": "usd", "product": metered.price.product, "unit_amount": 1, "recurring": {"interval": "month"}}
        )
        for _ in range(21)
    ]
    items = [{"price": price.id} for price in prices]
    with pytest.raises(stripe.InvalidRequestError, match="at most 20"):
        client.v1.subscriptions.create({"customer": metered.customer.id, "items": items})


def test_a_preview_shows_the_usage_so_far_and_changes_nothing(stripe_sandbox, client, metered):
    report(client, metered, 2_000_000)
    time.sleep(0.3)
    before = stripe_sandbox.dump()["objects"]
    assert client.v1.invoices.create_preview({"subscription": metered.subscription.id}).total == 2000
    assert stripe_sandbox.dump()["objects"] == before


def test_periods_keep_to_the_anchor_in_short_months(stripe_sandbox, client):
    metered = metered_customer(client)
    config = {"day_of_month": 31, "hour": 12, "minute": 0, "second": 0}
    subscription = client.v1.subscriptions.create(
        {
            "customer": metered.customer.id,
            "items": [{"price": metered.price.id}],
            "billing_cycle_anchor_config": config,
            "proration_behavior": "none",
        }
    )
    days = []
    for _ in range(6):
        end = client.v1.subscriptions.retrieve(subscription.id)["items"].data[0].current_period_end
        stripe_sandbox.advance_to(end + 1)
        days.append(stripe_sandbox.now())
    assert all((day.hour, day.minute) == (12, 0) for day in days)
    assert {day.day for day in days} <= {28, 29, 30, 31}
    assert len({(day.year, day.month) for day in days}) == 6


def test_yen_have_no_minor_unit(stripe_sandbox, client):
    metered = metered_customer(client, currency="jpy")
    invoice = to_draft(stripe_sandbox, client, metered, 1_000_000)
    assert (invoice.currency, invoice.total) == ("jpy", 1000)
