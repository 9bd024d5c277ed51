"""Every charge at Stripe as we keep it: taken or refused, by which card, and what the bank and Radar said.

Charges are told by webhooks in any order; what a lost one would have told is read from the invoice's payments.
"""

from datetime import UTC, datetime
from typing import Any

from billing_portal.billing import declines, gateway
from billing_portal.billing.declines import Decline
from billing_portal.billing.models import Customer, Invoice, PaymentAttempt

State = PaymentAttempt.State


def receive(charge: gateway.Object, *, now: datetime) -> PaymentAttempt | None:
    """Keep a charge as Stripe tells it; None for a customer that is none of ours. Asks Stripe which invoice it pays."""
    customer = Customer.objects.filter(stripe_customer_id=charge.get("customer") or "").first()
    if customer is None:
        return None
    known = PaymentAttempt.objects.filter(stripe_charge_id=charge["id"], invoice__isnull=False).first()
    invoice = known.invoice if known else _invoice_of(charge)
    return _keep(charge, customer.organization_id, invoice)


def read(invoice: Invoice) -> bool:
    """Keep all charges that were tried for an invoice; return whether the bank waits for the card's owner.

    Raises what the gateway raises.
    """
    waits = False
    for payment in gateway.list_all("invoice_payments", {"invoice": invoice.stripe_invoice_id}):
        stripe_id = payment["payment"].get("payment_intent")
        if stripe_id is None:
            continue
        waits |= gateway.retrieve("payment_intents", stripe_id)["status"] == "requires_action"
        # The oldest first, as their times are whole seconds: of two in one, the later row is the later charge.
        for charge in reversed(list(gateway.list_all("charges", {"payment_intent": stripe_id}))):
            _keep(charge, invoice.organization_id, invoice)
    return waits


def decline_of(attempt: PaymentAttempt) -> Decline:
    """Return why a charge was refused, in words for the person who pays."""
    return declines.of(code=attempt.failure_code, decline_code=attempt.decline_code, outcome=attempt.outcome)


def _invoice_of(charge: gateway.Object) -> Invoice | None:
    stripe_id = charge.get("payment_intent")
    if not stripe_id:
        return None
    wanted = {"payment": {"type": "payment_intent", "payment_intent": stripe_id}}
    paid = [payment["invoice"] for payment in gateway.list_all("invoice_payments", wanted)]
    return Invoice.objects.filter(stripe_invoice_id__in=paid).first()


def _keep(charge: gateway.Object, organization_id: int, invoice: Invoice | None) -> PaymentAttempt:
    """Write the row of a charge, or bring it up to date; an ended one does not become pending again."""
    facts = _facts(charge)
    attempt, is_new = PaymentAttempt.objects.get_or_create(
        stripe_charge_id=charge["id"],
        defaults={"organization_id": organization_id, "invoice": invoice, **facts},
    )
    if not is_new:
        if attempt.state != State.PENDING:
            facts.pop("state")
        if attempt.invoice_id is None:
            facts["invoice"] = invoice
        PaymentAttempt.objects.filter(pk=attempt.pk).update(**facts)
        attempt.refresh_from_db()
    return attempt


def _facts(charge: gateway.Object) -> dict[str, Any]:
    outcome = charge.get("outcome") or {}
    paid_with = charge.get("payment_method_details") or {}
    kind = paid_with.get("type") or ""
    card = paid_with.get("card") or {}
    # Link hands a card on: the wallet tells it from a card that was entered.
    wallet = (card.get("wallet") or {}).get("type")
    return {
        "stripe_payment_intent_id": charge.get("payment_intent") or "",
        "state": charge["status"],
        "amount_minor": charge["amount"],
        "currency": charge["currency"].upper(),
        "kind": ("link" if wallet == "link" else kind)[:24],
        "brand": card.get("brand") or "",
        "last4": card.get("last4") or "",
        "funding": card.get("funding") or "",
        "fingerprint": card.get("fingerprint") or "",
        "failure_code": (charge.get("failure_code") or "")[:64],
        "decline_code": (outcome.get("reason") or "")[:64] if charge["status"] == "failed" else "",
        "outcome": (outcome.get("type") or "")[:32],
        "risk_level": (outcome.get("risk_level") or "")[:32],
        "risk_score": outcome.get("risk_score"),
        "seller_message": (outcome.get("seller_message") or "")[:300],
        "attempted_at": datetime.fromtimestamp(charge["created"], UTC),
    }
