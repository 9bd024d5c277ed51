"""Taxes, credit notes, disputes, Checkout, test clocks, credit grants, alerts, Radar, the v2 stream."""

import json
import time

import pytest
import stripe

from tests.stripe.conftest import metered_customer, report

HOUR = 3600
AUTHENTICATED = {"Authorization": "Bearer sk_test_contract"}


def one_off(client, amount: int, *, card: str = "pm_card_visa", **customer) -> stripe.Invoice:
    """A draft for a customer with a card, with one line."""
    made = client.v1.customers.create({"email": "owner@customer.example", **customer})
    method = client.v1.payment_methods.attach(card, {"customer": made.id})
    client.v1.customers.update(made.id, {"invoice_settings": {"default_payment_method": method.id}})
    invoice = client.v1.invoices.create({"customer": made.id, "automatic_tax": {"enabled": "address" in customer}})
    client.v1.invoice_items.create({"customer": made.id, "invoice": invoice.id, "amount": amount, "currency": "usd"})
    return invoice


def paid(client, amount: int, **fields) -> stripe.Invoice:
    invoice = one_off(client, amount, **fields)
    return client.v1.invoices.pay(invoice.id)


# Taxes


@pytest.mark.parametrize(
    ("address", "tax", "reason"),
    [
        ({"country": "DE"}, 1900, "standard_rated"),
        ({"country": "FR"}, 2000, "standard_rated"),
        ({"country": "GB"}, 2000, "standard_rated"),
        ({"country": "JP"}, 1000, "standard_rated"),
        ({"country": "US", "state": "NY", "postal_code": "10001"}, 888, "standard_rated"),
        ({"country": "US", "state": "CA", "postal_code": "94103"}, 0, "product_exempt"),
        ({"country": "BR"}, 0, "not_collecting"),
    ],
)
def test_automatic_tax_follows_the_customers_place(client, address, tax, reason):
    invoice = client.v1.invoices.finalize_invoice(one_off(client, 10_000, address=address).id)
    assert (invoice.subtotal, invoice.total, invoice.automatic_tax.status) == (10_000, 10_000 + tax, "complete")
    (entry,) = invoice.total_taxes
    assert (entry.amount, entry.taxability_reason) == (tax, reason)
    assert invoice.lines.data[0].taxes[0].amount == tax


def test_a_business_elsewhere_in_the_union_accounts_for_its_own_tax(client):
    ids = [{"type": "eu_vat", "value": "DE123456789"}]
    invoice = client.v1.invoices.finalize_invoice(
        one_off(client, 10_000, address={"country": "DE"}, tax_id_data=ids).id
    )
    assert (invoice.total, invoice.total_taxes[0].taxability_reason) == (10_000, "reverse_charge")


def test_a_negative_line_lowers_the_taxable_base(client):
    draft = one_off(client, 10_000, address={"country": "DE"})
    client.v1.invoice_items.create({"customer": draft.customer, "invoice": draft.id, "amount": -4_000})
    assert client.v1.invoices.finalize_invoice(draft.id).total == 6_000 + 1_140


def test_finalising_without_a_location_is_refused(client):
    customer = client.v1.customers.create()
    draft = client.v1.invoices.create({"customer": customer.id, "automatic_tax": {"enabled": True}})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.invoices.finalize_invoice(draft.id)
    assert refused.value.code == "customer_tax_location_invalid"


def test_a_location_can_be_demanded_when_a_customer_is_saved(client):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.customers.create({"tax": {"validate_location": "immediately"}})
    assert refused.value.code == "customer_tax_location_invalid"


def test_automatic_finalisation_drops_the_tax_it_cannot_place(stripe_sandbox, client, metered):
    client.v1.subscriptions.update(metered.subscription.id, {"automatic_tax": {"enabled": True}})
    report(client, metered, 1_000_000)
    stripe_sandbox.advance_to(metered.period_end + HOUR + 1)
    (invoice,) = client.v1.invoices.list({"customer": metered.customer.id}).data
    assert (invoice.status, invoice.automatic_tax.enabled) == ("paid", False)
    assert invoice.automatic_tax.disabled_reason == "finalization_requires_location_inputs"


def test_a_tax_calculation_agrees_with_the_invoice(client):
    found = client.v1.tax.calculations.create(
        {
            "currency": "usd",
            "customer_details": {"address": {"country": "DE"}, "address_source": "billing"},
            "line_items": [{"amount": 10_000, "reference": "top-up"}],
        }
    )
    assert (found.tax_amount_exclusive, found.amount_total) == (1900, 11_900)


# Credit notes


def test_a_credit_note_leaves_less_to_pay_on_an_open_invoice(client):
    invoice = client.v1.invoices.finalize_invoice(one_off(client, 10_000).id, {"auto_advance": False})
    note = client.v1.credit_notes.create({"invoice": invoice.id, "amount": 2_500, "reason": "order_change"})
    assert (note.type, note.pre_payment_amount, note.number) == ("pre_payment", 2_500, f"{invoice.number}-CN-01")
    done = client.v1.invoices.pay(invoice.id)
    assert (done.amount_paid, done.pre_payment_credit_notes_amount) == (7_500, 2_500)


def test_a_credit_note_for_all_of_an_open_invoice_settles_it(client):
    invoice = client.v1.invoices.finalize_invoice(one_off(client, 10_000).id, {"auto_advance": False})
    client.v1.credit_notes.create({"invoice": invoice.id, "amount": 10_000})
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"


def test_a_credit_note_on_a_paid_invoice_refunds(client):
    invoice = paid(client, 10_000, address={"country": "DE"})
    line = invoice.lines.data[0]
    note = client.v1.credit_notes.create(
        {
            "invoice": invoice.id,
            "lines": [{"type": "invoice_line_item", "invoice_line_item": line.id, "amount": 1_000}],
            "refund_amount": 1_190,
        }
    )
    assert (note.total, note.subtotal, note.total_taxes[0].amount) == (1_190, 1_000, 190)
    refund = client.v1.refunds.retrieve(note.refunds[0].refund)
    assert (refund.amount, refund.status) == (1_190, "succeeded")
    assert client.v1.invoices.retrieve(invoice.id).post_payment_credit_notes_amount == 1_190


def test_a_credit_note_can_go_to_the_balance(client):
    invoice = paid(client, 10_000)
    note = client.v1.credit_notes.create({"invoice": invoice.id, "amount": 300, "credit_amount": 300})
    assert client.v1.customers.retrieve(invoice.customer).balance == -300
    entry = client.v1.customers.balance_transactions.retrieve(invoice.customer, note.customer_balance_transaction)
    assert (entry.type, entry.credit_note) == ("credit_note", note.id)


def test_credit_notes_never_exceed_the_invoice(client):
    invoice = paid(client, 10_000)
    client.v1.credit_notes.create({"invoice": invoice.id, "amount": 9_000, "credit_amount": 9_000})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.credit_notes.create({"invoice": invoice.id, "amount": 1_001, "credit_amount": 1_001})


def test_a_credit_note_can_be_previewed_and_voided(stripe_sandbox, client):
    invoice = client.v1.invoices.finalize_invoice(one_off(client, 10_000).id, {"auto_advance": False})
    assert client.v1.credit_notes.preview({"invoice": invoice.id, "amount": 100}).total == 100
    assert "credit_note" not in stripe_sandbox.dump()["objects"]
    note = client.v1.credit_notes.create({"invoice": invoice.id, "amount": 100})
    assert client.v1.credit_notes.void_credit_note(note.id).status == "void"
    assert client.v1.invoices.retrieve(invoice.id).amount_remaining == 10_000


# Disputes


def disputed(sandbox, client) -> stripe.Dispute:
    client.v1.payment_intents.create(
        {"amount": 5_000, "currency": "usd", "payment_method": "pm_card_createDispute", "confirm": True,
         "return_url": "https://portal.example/"}
    )  # fmt: skip
    (dispute,) = client.v1.disputes.list().data
    return dispute


@pytest.mark.parametrize(("evidence", "status"), [("winning_evidence", "won"), ("losing_evidence", "lost")])
def test_a_dispute_is_decided_by_its_evidence(stripe_sandbox, client, evidence, status):
    dispute = disputed(stripe_sandbox, client)
    assert (dispute.status, dispute.amount) == ("needs_response", 5_000)
    client.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": evidence}, "submit": True})
    stripe_sandbox.advance(2)
    assert client.v1.disputes.retrieve(dispute.id).status == status
    types = stripe_sandbox.event_types()
    assert types.index("charge.dispute.created") < types.index("charge.dispute.closed")
    assert ("charge.dispute.funds_reinstated" in types) == (status == "won")


def test_a_disputed_charge_cannot_be_refunded(stripe_sandbox, client):
    dispute = disputed(stripe_sandbox, client)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": dispute.charge})
    assert refused.value.code == "charge_disputed"


# Checkout


def test_checkout_takes_a_payment(stripe_sandbox, client):
    customer = client.v1.customers.create({"email": "owner@customer.example", "address": {"country": "DE"}})
    item = {"price_data": {"currency": "usd", "unit_amount": 5_000, "product_data": {"name": "Credit"}}, "quantity": 2}
    session = client.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "customer": customer.id,
            "line_items": [item],
            "automatic_tax": {"enabled": True},
            "success_url": "https://portal.example/{CHECKOUT_SESSION_ID}",
        }
    )
    assert (session.amount_subtotal, session.amount_total, session.status) == (10_000, 11_900, "open")
    assert client.v1.checkout.sessions.line_items.list(session.id).data[0].description == "Credit"
    params = {"payment_method": "pm_card_visa", "return_url": "https://portal.example/"}
    client.v1.payment_intents.confirm(session.payment_intent, params)
    done = client.v1.checkout.sessions.retrieve(session.id)
    assert (done.status, done.payment_status) == ("complete", "paid")
    assert stripe_sandbox.event_types()[-1] == "checkout.session.completed"


def test_checkout_saves_a_card(client):
    customer = client.v1.customers.create()
    params = {"mode": "setup", "customer": customer.id, "currency": "usd", "success_url": "https://portal.example/"}
    session = client.v1.checkout.sessions.create(params)
    confirmed = {"payment_method": "pm_card_visa", "return_url": "https://portal.example/"}
    client.v1.setup_intents.confirm(session.setup_intent, confirmed)
    assert client.v1.checkout.sessions.retrieve(session.id).status == "complete"
    assert len(client.v1.customers.payment_methods.list(customer.id).data) == 1


def test_a_checkout_session_expires_after_a_day(stripe_sandbox, client):
    customer = client.v1.customers.create()
    params = {"mode": "setup", "customer": customer.id, "currency": "usd", "success_url": "https://portal.example/"}
    session = client.v1.checkout.sessions.create(params)
    stripe_sandbox.advance(24 * HOUR + 1)
    assert client.v1.checkout.sessions.retrieve(session.id).status == "expired"


# Test clocks


def test_a_test_clock_moves_only_its_own_customers(stripe_sandbox, client, metered):
    start = stripe_sandbox.timestamp()
    clock = client.v1.test_helpers.test_clocks.create({"frozen_time": start, "name": "a month on"})
    customer = client.v1.customers.create({"test_clock": clock.id})
    method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    price = {"price": metered.price.id}
    params = {"customer": customer.id, "items": [price], "default_payment_method": method.id}
    subscription = client.v1.subscriptions.create(params)
    payload = {"stripe_customer_id": customer.id, "value": "3000000"}
    event = {"event_name": metered.meter.event_name, "payload": payload, "timestamp": start}
    client.v1.billing.meter_events.create(event)
    end = subscription["items"].data[0].current_period_end
    advanced = client.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": end + 2 * HOUR})
    assert advanced.status == "advancing"
    for _ in range(100):
        if client.v1.test_helpers.test_clocks.retrieve(clock.id).status == "ready":
            break
        time.sleep(0.02)
    (invoice,) = client.v1.invoices.list({"customer": customer.id}).data
    assert (invoice.status, invoice.total, invoice.created) == ("paid", 3000, end)
    assert client.v1.invoices.list({"customer": metered.customer.id}).data == []
    with pytest.raises(stripe.InvalidRequestError, match="past"):
        client.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": start})
    with pytest.raises(stripe.InvalidRequestError, match="two intervals"):
        client.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": end + 100 * 86400})


# Billing credits and alerts


def test_billing_credits_cover_metered_lines_when_an_invoice_is_finalised(stripe_sandbox, client, metered):
    grant = client.v1.billing.credit_grants.create(
        {
            "customer": metered.customer.id,
            "amount": {"type": "monetary", "monetary": {"currency": "usd", "value": 600}},
            "applicability_config": {"scope": {"price_type": "metered"}},
            "category": "promotional",
        }
    )
    report(client, metered, 1_000_000)
    stripe_sandbox.advance_to(metered.period_end + 1)
    (draft,) = client.v1.invoices.list({"customer": metered.customer.id}).data
    assert draft.total == 1_000
    done = client.v1.invoices.finalize_invoice(draft.id, {"auto_advance": False})
    assert (done.subtotal, done.total, done.total_pretax_credit_amounts[0].amount) == (1_000, 400, 600)
    summary = client.v1.billing.credit_balance_summary.retrieve(
        {"customer": metered.customer.id, "filter": {"type": "credit_grant", "credit_grant": grant.id}}
    )
    assert summary.balances[0].available_balance.monetary.value == 0


def test_an_alert_is_triggered_once_when_its_threshold_is_passed(stripe_sandbox, client, metered):
    client.v1.billing.alerts.create(
        {
            "alert_type": "usage_threshold",
            "title": "A lot",
            "usage_threshold": {"gte": 100, "meter": metered.meter.id, "recurrence": "one_time"},
        }
    )
    for value in (60, 60, 60):
        report(client, metered, value)
        stripe_sandbox.advance(1)
    assert stripe_sandbox.event_types().count("billing.alert.triggered") == 1


# Radar


def test_radar_can_block_prepaid_cards(stripe_sandbox, client):
    stripe_sandbox.faults(radar={"block_prepaid": True})
    customer = client.v1.customers.create()
    params = {"customer": customer.id, "payment_method": "pm_card_mastercard_prepaid", "confirm": True}
    params["return_url"] = "https://portal.example/"
    assert client.v1.setup_intents.create(params).status == "succeeded"
    with pytest.raises(stripe.CardError) as refused:
        client.v1.payment_intents.create({**params, "amount": 900, "currency": "usd"})
    charge = client.v1.charges.retrieve(refused.value.error.charge)
    assert (charge.outcome.type, charge.outcome.reason) == ("blocked", "rule")
    stripe_sandbox.faults(radar={"block_prepaid": True, "cover_setup_intents": True})
    with pytest.raises(stripe.CardError):
        client.v1.setup_intents.create(params)


def test_radar_lists_hold_values(client):
    made = client.v1.radar.value_lists.create({"alias": "trusted", "name": "Trusted", "item_type": "email"})
    client.v1.radar.value_list_items.create({"value_list": made.id, "value": "a@customer.example"})
    assert client.v1.radar.value_lists.retrieve(made.id).list_items.data[0].value == "a@customer.example"


# The v2 stream and its thin events


def test_the_stream_takes_a_hundred_events_with_a_sessions_token(stripe_sandbox, client, metered):
    session = client.v2.billing.meter_event_session.create()
    events = [
        {
            "event_name": metered.meter.event_name,
            "identifier": f"call-{number}",
            "payload": {"stripe_customer_id": metered.customer.id, "value": "2"},
        }
        for number in range(100)
    ]
    streaming = stripe.StripeClient(
        session.authentication_token,
        base_addresses={"api": stripe_sandbox.url, "meter_events": stripe_sandbox.url},
        http_client=client._requestor._client,
    )
    streaming.v2.billing.meter_event_stream.create({"events": events})
    start = stripe_sandbox.timestamp() // 60 * 60
    time.sleep(0.3)
    params = {"customer": metered.customer.id, "start_time": start - 60, "end_time": start + 120}
    assert client.v1.billing.meters.event_summaries.list(metered.meter.id, params).data[0].aggregated_value == 200


def test_a_streams_session_ends_after_a_quarter_of_an_hour(stripe_sandbox, client):
    token = client.v2.billing.meter_event_session.create().authentication_token
    stripe_sandbox.advance(15 * 60)
    answer = stripe_sandbox.control.post(
        "/v2/billing/meter_event_stream", headers={"Authorization": f"Bearer {token}"}, json={"events": []}
    )
    assert answer.status_code == 401


def test_a_bad_meter_event_is_told_of_in_a_thin_event(stripe_sandbox, client, receiver, metered):
    destination = {
        "name": "thin",
        "type": "webhook_endpoint",
        "event_payload": "thin",
        "enabled_events": ["v1.billing.meter.error_report_triggered"],
        "webhook_endpoint": {"url": receiver.url},
    }
    stripe_sandbox.control.post(
        "/v2/core/event_destinations", json=destination, headers=AUTHENTICATED
    ).raise_for_status()
    payload = {"stripe_customer_id": "cus_unknown", "value": "1"}
    client.v1.billing.meter_events.create({"event_name": metered.meter.event_name, "payload": payload})
    stripe_sandbox.advance(3)
    stripe_sandbox.flush()
    (received,) = receiver.received
    thin = json.loads(received.body)
    assert (thin["object"], thin["related_object"]["id"]) == ("v2.core.event", metered.meter.id)
    assert "data" not in thin
    full = stripe_sandbox.control.get(f"/v2/core/events/{thin['id']}", headers=AUTHENTICATED).json()
    assert full["data"]["reason"]["error_types"][0]["code"] == "meter_event_customer_not_found"


# Licensed items and limits


def test_a_licensed_item_is_paid_in_advance_and_prorated(stripe_sandbox, client):
    metered = metered_customer(client)
    price = client.v1.prices.create(
        {
            "currency": "usd",
            "product": metered.price.product,
            "unit_amount": 3_000,
            "recurring": {"interval": "month"},
        }
    )
    params = {"customer": metered.customer.id, "default_payment_method": metered.card.id}
    subscription = client.v1.subscriptions.create({**params, "items": [{"price": price.id}]})
    first = client.v1.invoices.retrieve(subscription.latest_invoice)
    assert (first.status, first.total, first.billing_reason) == ("paid", 3_000, "subscription_create")
    item = subscription["items"].data[0]
    stripe_sandbox.advance_to((item.current_period_start + item.current_period_end) // 2)
    client.v1.subscription_items.update(item.id, {"quantity": 2})
    pending = client.v1.invoice_items.list({"customer": metered.customer.id, "pending": True}).data
    assert sorted(each.amount for each in pending) == [-1_500, 3_000]


def test_a_rate_limit_can_be_switched_on(stripe_sandbox, client):
    stripe_sandbox.faults(rate_limit={"per_second": 3})
    with pytest.raises(stripe.RateLimitError):
        for _ in range(10):
            client.v1.customers.list()
    stripe_sandbox.faults(rate_limit={})
    assert client.v1.customers.list().data == []


def test_dinars_keep_three_decimals_and_charge_in_tens(client):
    customer = client.v1.customers.create()
    params = {"customer": customer.id, "currency": "kwd", "payment_method": "pm_card_visa", "confirm": True}
    params["return_url"] = "https://portal.example/"
    assert client.v1.payment_intents.create({**params, "amount": 12_340}).amount_received == 12_340
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_intents.create({**params, "amount": 12_345})


def test_an_issuer_s_warning_of_fraud_is_actionable_until_the_charge_is_refunded(client):
    customer = client.v1.customers.create()
    params = {
        "amount": 700,
        "currency": "usd",
        "customer": customer.id,
        "payment_method": "pm_card_createIssuerFraudRecord",
    }
    automatic = {"enabled": True, "allow_redirects": "never"}
    intent = client.v1.payment_intents.create({**params, "confirm": True, "automatic_payment_methods": automatic})
    (warning,) = client.v1.radar.early_fraud_warnings.list({"payment_intent": intent.id}).data
    assert (warning.actionable, warning.charge) == (True, intent.latest_charge)
    client.v1.refunds.create({"payment_intent": intent.id})
    assert client.v1.radar.early_fraud_warnings.retrieve(warning.id).actionable is False
    types = [event.type for event in client.v1.events.list({"limit": 100}).data]
    assert "radar.early_fraud_warning.created" in types
    assert "radar.early_fraud_warning.updated" in types
