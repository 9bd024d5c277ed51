"""Collecting an invoice: its payment, automatic attempts, Smart Retries, and what they do to subscriptions."""

from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import cards
from billing_portal.sandbox.errors import StripeError, invalid
from billing_portal.sandbox.registry import job, listener, resource
from billing_portal.sandbox.store import Object

from . import intents, payment_intents

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

RETRY_DAYS = (1, 3, 5, 7, 9, 11, 12, 14)
"""Days after the first attempt. Stripe's own choice of instants is learned; it recommends 8 tries in 2 weeks."""


def _belongs(payment: Object, wanted: dict[str, Any]) -> bool:
    return all(payment["payment"].get(name) == value for name, value in wanted.items())


resource("invoice_payment", "inpay", "/v1/invoice_payments", filters={"payment": _belongs})


def open_payment(box: "Sandbox", invoice: Object) -> None:
    """Make the payment intent through which the invoice is paid."""
    customer = box.get("customer", invoice["customer"])
    identifier = box.new_id("pi")
    intent = box.create(
        "payment_intent",
        id=identifier,
        amount=invoice["amount_due"],
        currency=invoice["currency"],
        customer=customer["id"],
        client_secret=intents.new_secret(identifier),
        description=f"Payment for Invoice {invoice['number']}",
        payment_method_types=["card", "link"],
        receipt_email=None,
        status="requires_payment_method",
        _invoice=invoice["id"],
    )
    payment = box.create(
        "invoice_payment",
        amount_requested=invoice["amount_due"],
        currency=invoice["currency"],
        invoice=invoice["id"],
        is_default=True,
        payment={"type": "payment_intent", "payment_intent": intent["id"]},
        status="open",
        status_transitions={"canceled_at": None, "paid_at": None},
    )
    box.change(invoice, _intent=intent["id"], _payment=payment["id"])


def start(box: "Sandbox", invoice: Object) -> None:
    """After automatic finalisation: charge the saved card, or send the invoice and watch its due date."""
    if invoice["collection_method"] == "charge_automatically":
        attempt(box, invoice)
    else:
        box.tell(invoice, "sent")
        if invoice["due_date"]:
            box.schedule("invoice.overdue", invoice, invoice["due_date"])


@job("invoice.overdue")
def overdue(box: "Sandbox", key: str) -> None:
    invoice = box.get("invoice", key)
    if invoice["status"] == "open":
        box.tell(invoice, "overdue")
        _fall_behind(box, invoice)


@job("invoice.collect")
def collect_when_due(box: "Sandbox", key: str) -> None:
    """A scheduled attempt. After a hard decline it waits for another card; the schedule goes on meanwhile."""
    invoice = box.get("invoice", key)
    if invoice["status"] != "open" or not invoice["auto_advance"]:
        return
    method = method_for(box, invoice)
    if method and method["id"] == invoice.get("_refused_for_good"):
        _plan_retry(box, invoice)
        return
    attempt(box, invoice)


def attempt(box: "Sandbox", invoice: Object) -> None:
    """An automatic attempt: its failure is recorded, not raised."""
    method = method_for(box, invoice)
    if method is None:
        _note_failure(box, invoice)
        return
    intent = box.get("payment_intent", invoice["_intent"])
    try:
        payment_intents.confirm_intent(box, intent, {"payment_method": method["id"], "off_session": True})
    except StripeError as error:
        if not error.keeps_changes:
            _note_failure(box, invoice)


def method_for(box: "Sandbox", invoice: Object) -> Object | None:
    """The invoice's own payment method, else the subscription's, else the customer's default."""
    subscription = box.store.get("subscription", invoice.get("_subscription") or "") or {}
    customer = box.get("customer", invoice["customer"])
    chosen = (
        invoice["default_payment_method"]
        or subscription.get("default_payment_method")
        or customer["invoice_settings"]["default_payment_method"]
    )
    method = box.store.get("payment_method", chosen or "")
    return method if method and method["customer"] == customer["id"] else None


def pay(box: "Sandbox", invoice: Object, params: dict[str, Any]) -> None:
    """An attempt someone asked for: its failure is raised as well as recorded."""
    if params.get("paid_out_of_band"):
        close(box, invoice, "void_invoice")
        box.change(invoice, amount_paid_off_stripe=invoice["amount_remaining"])
        mark_paid(box, invoice)
        return
    name = params.get("payment_method")
    method = box.get("payment_method", name, param="payment_method") if name else method_for(box, invoice)
    if method is None:
        raise invalid(
            "This customer has no attached payment source or default payment method. Please consider adding a default"
            " payment method. For more information, visit"
            " https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority.",
            code="missing",
        )
    intent = box.get("payment_intent", invoice["_intent"])
    off_session = params.get("off_session", True)
    payment_intents.confirm_intent(box, intent, {"payment_method": method["id"], "off_session": off_session})
    if intent["status"] == "requires_action":
        raise StripeError(
            "Payment for this invoice requires additional user action before it can be completed successfully.",
            status=402,
            type="card_error",
            code="invoice_payment_intent_requires_action",
            payment_intent=box.retrieve("payment_intent", intent["id"]),
            keeps_changes=True,
        )


@listener("payment_intent.succeeded")
def payment_succeeded(box: "Sandbox", intent: Object) -> None:
    invoice = box.store.get("invoice", intent.get("_invoice") or "")
    if invoice is None or invoice["status"] not in {"open", "uncollectible"}:
        return
    payment = box.get("invoice_payment", invoice["_payment"])
    box.change(invoice, attempt_count=invoice["attempt_count"] + 1, amount_paid=intent["amount_received"])
    transitions = {"canceled_at": None, "paid_at": box.time_of(invoice)}
    box.change(payment, status="paid", amount_paid=intent["amount_received"], status_transitions=transitions)
    box.tell(payment, "paid")
    mark_paid(box, invoice)


def mark_paid(box: "Sandbox", invoice: Object) -> None:
    """Nothing is left to collect."""
    transitions = invoice["status_transitions"] | {"paid_at": box.time_of(invoice)}
    box.change(
        invoice,
        status="paid",
        attempted=True,
        amount_remaining=0,
        next_payment_attempt=None,
        status_transitions=transitions,
    )
    box.agenda.drop("invoice.collect", invoice["id"])
    box.tell(invoice, "paid")
    box.tell(invoice, "payment_succeeded")
    _catch_up(box, invoice)


@listener("payment_intent.payment_failed")
def payment_failed(box: "Sandbox", intent: Object) -> None:
    invoice = box.store.get("invoice", intent.get("_invoice") or "")
    if invoice is None or invoice["status"] != "open":
        return
    error = intent["last_payment_error"] or {}
    hard = error.get("decline_code") in cards.HARD_DECLINES
    method = (error.get("payment_method") or {}).get("id")
    box.change(invoice, _refused_for_good=method if hard else None)
    _note_failure(box, invoice)


@listener("payment_intent.requires_action")
def action_required(box: "Sandbox", intent: Object) -> None:
    if (invoice := box.store.get("invoice", intent.get("_invoice") or "")) and invoice["status"] == "open":
        box.tell(invoice, "payment_action_required")
        _note_failure(box, invoice)


def _note_failure(box: "Sandbox", invoice: Object) -> None:
    first = invoice.get("_first_attempt_at") or box.time_of(invoice)
    count = invoice["attempt_count"] + 1
    box.change(invoice, attempted=True, attempt_count=count, _first_attempt_at=first)
    _plan_retry(box, invoice)
    box.tell(invoice, "payment_failed")
    _fall_behind(box, invoice)


def _plan_retry(box: "Sandbox", invoice: Object) -> None:
    """The next instant of the schedule that is still ahead; none once it is exhausted."""
    now, first = box.time_of(invoice), invoice["_first_attempt_at"]
    ahead = [first + days * 86400 for days in RETRY_DAYS if first + days * 86400 > now]
    upcoming = ahead[0] if ahead and invoice["auto_advance"] else None
    box.change(invoice, next_payment_attempt=upcoming)
    if upcoming:
        box.schedule("invoice.collect", invoice, upcoming)


def _fall_behind(box: "Sandbox", invoice: Object) -> None:
    """The sandbox's account leaves unpaid subscriptions past due, as the portal asks of a live account."""
    customer = box.get("customer", invoice["customer"])
    box.change(customer, tell=True, delinquent=True)
    subscription = box.store.get("subscription", invoice.get("_subscription") or "")
    if subscription and subscription["status"] == "active":
        box.change(subscription, tell=True, status="past_due")


def _catch_up(box: "Sandbox", invoice: Object) -> None:
    behind = [i for i in box.store.where("invoice", customer=invoice["customer"]) if i["status"] == "open"]
    if not any(i["attempted"] for i in behind):
        box.change(box.get("customer", invoice["customer"]), tell=True, delinquent=False)
    subscription = box.store.get("subscription", invoice.get("_subscription") or "")
    if not subscription:
        return
    unpaid = [i for i in behind if i.get("_subscription") == subscription["id"] and i["attempted"]]
    if subscription["status"] in {"past_due", "incomplete"} and not unpaid:
        box.change(subscription, tell=True, status="active")


def close(box: "Sandbox", invoice: Object, reason: str) -> None:
    """Give up the payment behind an invoice."""
    intent = box.store.get("payment_intent", invoice.get("_intent") or "")
    if intent and intent["status"] in payment_intents.OPEN:
        payment_intents.cancel_intent(box, intent, reason)
    payment = box.store.get("invoice_payment", invoice.get("_payment") or "")
    if payment and payment["status"] == "open":
        now = box.time_of(invoice)
        box.change(payment, status="canceled", status_transitions={"canceled_at": now, "paid_at": None})
    box.agenda.drop("invoice.collect", invoice["id"])
