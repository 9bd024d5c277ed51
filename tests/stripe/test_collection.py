"""How an open invoice is collected: attempts, their schedule, and cards that will not do."""

import pytest

from tests.stripe.conftest import metered_customer, report

DAY = 86_400
HOUR = 3_600


def due(sandbox, client, metered):
    """An invoice of ten dollars at the instant of its first attempt."""
    report(client, metered, 1_000_000)
    sandbox.advance_to(metered.period_end + HOUR)
    (invoice,) = client.v1.invoices.list({"customer": metered.customer.id}).data
    return invoice


def test_smart_retries_keep_to_their_days(stripe_sandbox, client):
    metered = metered_customer(client, card="pm_card_chargeCustomerFail")
    invoice = due(stripe_sandbox, client, metered)
    first, days = stripe_sandbox.timestamp(), []
    while invoice.next_payment_attempt:
        days.append((invoice.next_payment_attempt - first) / DAY)
        stripe_sandbox.advance_to(invoice.next_payment_attempt)
        invoice = client.v1.invoices.retrieve(invoice.id)
    assert days == [1, 3, 5, 7, 9, 11, 12, 14]
    assert (invoice.status, invoice.attempt_count) == ("open", 9)
    failures = [e for e in stripe_sandbox.dump()["events"] if e["type"] == "invoice.payment_failed"]
    assert [e["created"] - first for e in failures] == [0, *(day * DAY for day in days)]


def test_after_a_soft_decline_the_same_card_is_tried_again(stripe_sandbox, client, metered):
    stripe_sandbox.faults(decline_next={"count": 1, "code": "insufficient_funds"})
    invoice = due(stripe_sandbox, client, metered)
    assert (invoice.status, invoice.attempt_count) == ("open", 1)
    stripe_sandbox.advance_to(invoice.next_payment_attempt)
    paid = client.v1.invoices.retrieve(invoice.id)
    assert (paid.status, paid.attempt_count) == ("paid", 2)


@pytest.mark.parametrize("code", ["lost_card", "stolen_card", "fraudulent"])
def test_after_a_hard_decline_the_same_card_is_left_alone(stripe_sandbox, client, metered, code):
    stripe_sandbox.faults(decline_next={"count": 1, "code": code})
    invoice = due(stripe_sandbox, client, metered)
    stripe_sandbox.advance(20 * DAY)
    left = client.v1.invoices.retrieve(invoice.id)
    assert (left.status, left.attempt_count, left.next_payment_attempt) == ("open", 1, None)


def test_a_card_that_has_expired_meanwhile_is_refused(stripe_sandbox, client, metered):
    client.v1.payment_methods.update(metered.card.id, {"card": {"exp_month": stripe_sandbox.now().month}})
    client.v1.payment_methods.update(metered.card.id, {"card": {"exp_year": stripe_sandbox.now().year}})
    stripe_sandbox.advance(5 * DAY)
    invoice = due(stripe_sandbox, client, metered)
    assert (invoice.status, invoice.attempt_count) == ("open", 1)
    failed = client.v1.payment_intents.list({"customer": metered.customer.id}).data[0]
    assert failed.last_payment_error.code == "expired_card"


def test_a_card_that_asks_its_owner_waits_for_them_when_charged_automatically(stripe_sandbox, client):
    metered = metered_customer(client, card="pm_card_authenticationRequired")
    invoice = due(stripe_sandbox, client, metered)
    assert invoice.status == "open"
    intent = client.v1.payment_intents.list({"customer": metered.customer.id}).data[0]
    assert intent.status == "requires_action"
    stripe_sandbox.control.post("/_sandbox/authenticate", json={"intent": intent.id, "outcome": "succeed"})
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"


def test_a_sent_invoice_is_overdue_when_its_day_has_passed(stripe_sandbox, client, metered):
    sent = {"collection_method": "send_invoice", "days_until_due": 7}
    client.v1.subscriptions.update(metered.subscription.id, sent)
    invoice = due(stripe_sandbox, client, metered)
    assert (invoice.status, invoice.attempt_count, invoice.due_date) == ("open", 0, metered.period_end + 7 * DAY)
    stripe_sandbox.advance_to(invoice.due_date)
    assert "invoice.sent" in stripe_sandbox.event_types()
    assert "invoice.overdue" in stripe_sandbox.event_types()
    assert client.v1.subscriptions.retrieve(metered.subscription.id).status == "past_due"


def test_voiding_the_last_unpaid_invoice_stops_its_attempts(stripe_sandbox, client):
    metered = metered_customer(client, card="pm_card_chargeCustomerFail")
    invoice = due(stripe_sandbox, client, metered)
    client.v1.invoices.void_invoice(invoice.id)
    before = stripe_sandbox.event_types().count("invoice.payment_failed")
    stripe_sandbox.advance(5 * DAY)
    assert stripe_sandbox.event_types().count("invoice.payment_failed") == before
