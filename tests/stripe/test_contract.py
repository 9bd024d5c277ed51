"""The contract: what the portal relies on. Asks the sandbox, or a real test account with STRIPE_CONTRACT_KEY.

Time moves by Stripe's own test clocks only, so that both can be asked the same.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import stripe

KEY = os.environ.get("STRIPE_CONTRACT_KEY", "")
PATIENCE_SECONDS = 300 if KEY else 10
NOON = {"day_of_month": 1, "hour": 12, "minute": 0, "second": 0}
HOUR = 3600


@pytest.fixture(scope="module")
def contract(request: pytest.FixtureRequest) -> Iterator[stripe.StripeClient]:
    """A client of whoever is asked."""
    if not KEY:
        sandbox = request.getfixturevalue("stripe_sandbox_process")
        sandbox.reset()
        yield sandbox.client
        return
    assert KEY.startswith(("sk_test_", "rk_test_")), "the contract suite is for test accounts only"
    with requests.Session() as session:
        yield stripe.StripeClient(KEY, http_client=stripe.RequestsClient(session=session), max_network_retries=2)


def wait_for(condition: Callable[[], Any]) -> Any:
    """What a condition gives once it gives something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        if found := condition():
            return found
        assert time.monotonic() < deadline, "Stripe took too long"
        time.sleep(2 if KEY else 0.05)


def key() -> str:
    return uuid.uuid4().hex


class Account:
    """A customer on a test clock who pays for metered calls by card."""

    def __init__(self, client: stripe.StripeClient, *, card: str = "pm_card_visa") -> None:
        self.client = client
        self.clock = client.v1.test_helpers.test_clocks.create({"frozen_time": int(time.time())})
        params: Any = {"test_clock": self.clock.id, "email": "contract@customer.example"}
        self.customer = client.v1.customers.create(params)
        self.card = client.v1.payment_methods.attach(card, {"customer": self.customer.id})
        self.event_name = f"contract_{key()}"
        self.meter = client.v1.billing.meters.create(
            {"display_name": "Contract", "event_name": self.event_name, "default_aggregation": {"formula": "sum"}}
        )
        product = client.v1.products.create({"name": "Contract voice"})
        self.price = client.v1.prices.create(
            {
                "currency": "usd",
                "product": product.id,
                "unit_amount_decimal": "0.0001",
                "recurring": {"interval": "month", "meter": self.meter.id, "usage_type": "metered"},
            }
        )
        self.subscription = client.v1.subscriptions.create(
            {
                "customer": self.customer.id,
                "items": [{"price": self.price.id}],
                "billing_cycle_anchor_config": NOON,
                "proration_behavior": "none",
                "default_payment_method": self.card.id,
            }
        )
        self.period_end = self.subscription["items"].data[0].current_period_end

    def report(self, value: int, **fields: Any) -> Any:
        payload = {"stripe_customer_id": self.customer.id, "value": str(value)}
        return self.client.v1.billing.meter_events.create(
            {"event_name": self.event_name, "payload": payload, "timestamp": self.clock.frozen_time, **fields}
        )

    def advance_to(self, instant: int) -> None:
        clocks = self.client.v1.test_helpers.test_clocks
        clocks.advance(self.clock.id, {"frozen_time": instant})
        wait_for(lambda: clocks.retrieve(self.clock.id).status == "ready")

    def total_reported(self) -> int:
        start = self.clock.frozen_time // 60 * 60
        params: Any = {"customer": self.customer.id, "start_time": start, "end_time": start + 60}
        found = self.client.v1.billing.meters.event_summaries.list(self.meter.id, params).data
        return int(sum(summary.aggregated_value for summary in found))

    def to_draft(self, value: int) -> stripe.Invoice:
        """Report usage, wait until Stripe has summed it, and end the period."""
        self.report(value)
        wait_for(lambda: self.total_reported() == value)
        self.advance_to(self.period_end + 60)
        return self.client.v1.invoices.list({"customer": self.customer.id}).data[0]


@pytest.fixture
def account(contract: stripe.StripeClient) -> Iterator[Account]:
    made = Account(contract)
    yield made
    contract.v1.test_helpers.test_clocks.delete(made.clock.id)


def test_a_period_is_invoiced_credited_finalised_and_paid(contract, account):
    draft = account.to_draft(12_340_000)
    assert (draft.status, draft.billing_reason, draft.total) == ("draft", "subscription_cycle", 1234)
    contract.v1.invoices.update(draft.id, {"auto_advance": False})
    item: Any = {"customer": account.customer.id, "invoice": draft.id, "amount": -234, "description": "Credit"}
    contract.v1.invoice_items.create(item, {"idempotency_key": key()})
    opened = contract.v1.invoices.finalize_invoice(draft.id, {"auto_advance": False})
    assert (opened.status, opened.total, opened.amount_due) == ("open", 1000, 1000)
    assert opened.number
    assert opened.hosted_invoice_url
    paid = contract.v1.invoices.pay(draft.id, {"off_session": True})
    assert (paid.status, paid.amount_paid) == ("paid", 1000)
    lines = list(contract.v1.invoices.line_items.list(draft.id, {"limit": 100}).auto_paging_iter())
    assert sorted(line.amount for line in lines) == [-234, 1234]
    (payment,) = contract.v1.invoice_payments.list({"invoice": draft.id}).data
    assert (payment.status, payment.payment.type) == ("paid", "payment_intent")


def test_a_period_begins_on_the_first_at_noon(account):
    moment = time.gmtime(account.period_end)
    assert (moment.tm_mday, moment.tm_hour, moment.tm_min) == (1, 12, 0)


def test_an_invoice_covered_by_credit_is_paid_without_a_charge(contract, account):
    draft = account.to_draft(5_000_000)
    item: Any = {"customer": account.customer.id, "invoice": draft.id, "amount": -500}
    contract.v1.invoice_items.create(item)
    done = contract.v1.invoices.finalize_invoice(draft.id)
    assert (done.status, done.total, done.amount_due) == ("paid", 0, 0)


def test_an_identifier_is_taken_once(contract, account):
    identifier = key()
    account.report(5, identifier=identifier)
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        account.report(5, identifier=identifier)


def test_an_idempotency_key_gives_the_first_answer_again(contract):
    used: Any = {"idempotency_key": key()}
    ids = {contract.v1.customers.create({"name": "Once"}, used).id for _ in range(2)}
    assert len(ids) == 1
    with pytest.raises(stripe.IdempotencyError):
        contract.v1.customers.create({"name": "Other"}, used)


def test_an_unknown_parameter_is_refused(contract):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        contract.v1.customers.create({"nonsense": "1"})
    assert (refused.value.http_status, refused.value.code) == (400, "parameter_unknown")


def test_a_declined_card_says_why(contract):
    customer = contract.v1.customers.create()
    method = contract.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer.id})
    params: Any = {"amount": 900, "currency": "usd", "customer": customer.id, "payment_method": method.id}
    with pytest.raises(stripe.CardError) as refused:
        contract.v1.payment_intents.create({**params, "confirm": True, "off_session": True})
    error = refused.value.error
    assert (refused.value.http_status, error.code, error.decline_code) == (402, "card_declined", "generic_decline")
    assert error.payment_intent.status == "requires_payment_method"


def test_a_card_that_wants_its_owner_is_refused_off_session(contract):
    customer = contract.v1.customers.create()
    params: Any = {"amount": 900, "currency": "usd", "customer": customer.id, "confirm": True, "off_session": True}
    with pytest.raises(stripe.CardError) as refused:
        contract.v1.payment_intents.create({**params, "payment_method": "pm_card_authenticationRequired"})
    assert refused.value.code == "authentication_required"


def test_a_saved_card_can_be_charged_and_refunded_in_parts(contract):
    customer = contract.v1.customers.create()
    setup: Any = {"customer": customer.id, "payment_method": "pm_card_visa", "confirm": True, "usage": "off_session"}
    types: Any = {"automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}
    saved = contract.v1.setup_intents.create({**setup, **types})
    assert saved.status == "succeeded"
    charge: Any = {"amount": 2000, "currency": "usd", "customer": customer.id, "payment_method": saved.payment_method}
    intent = contract.v1.payment_intents.create({**charge, "confirm": True, "off_session": True})
    assert intent.status == "succeeded"
    for amount in (500, 1500):
        refund = contract.v1.refunds.create({"payment_intent": intent.id, "amount": amount}, {"idempotency_key": key()})
        assert refund.status == "succeeded"
    assert contract.v1.charges.retrieve(str(intent.latest_charge)).refunded


def test_a_prepaid_card_says_so(contract):
    customer = contract.v1.customers.create()
    method = contract.v1.payment_methods.attach("pm_card_mastercard_prepaid", {"customer": customer.id})
    assert method.card.funding == "prepaid"


def test_a_credit_note_on_a_paid_invoice_refunds(contract, account):
    draft = account.to_draft(10_000_000)
    contract.v1.invoices.finalize_invoice(draft.id, {"auto_advance": False})
    contract.v1.invoices.pay(draft.id)
    note = contract.v1.credit_notes.create({"invoice": draft.id, "amount": 300, "refund_amount": 300})
    assert (note.type, note.total, note.status) == ("post_payment", 300, "issued")


def test_events_tell_what_happened(contract):
    customer = contract.v1.customers.create({"name": "Told"})
    found = wait_for(
        lambda: [
            event
            for event in contract.v1.events.list({"type": "customer.created", "limit": 20}).data
            if event.data.object["id"] == customer.id
        ]
    )
    assert found[0].api_version
    assert found[0].data.object["name"] == "Told"
