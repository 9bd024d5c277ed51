"""Finding the invoice behind a refund, a dispute or a warning: Stripe names the payment alone."""

from datetime import datetime

from billing_portal.billing import credit_notes, gateway, invoices, purchases
from billing_portal.billing.gateway import Object
from billing_portal.billing.models import InvoicePayment


def trace(stripe_object: Object, *, now: datetime) -> None:
    """Note which invoice the object's payment paid, and take over that invoice and its credit notes as they are now.

    So what follows from a refund does not depend on which event comes first. A payment of no invoice is left alone.
    """
    if stripe_object.get("deleted"):
        return
    payment_intent = _payment_intent_of(stripe_object)
    if not payment_intent:
        return
    wanted = {"payment": {"type": "payment_intent", "payment_intent": payment_intent}}
    for payment in gateway.list_all("invoice_payments", wanted):
        _take_over(payment["invoice"], payment_intent, now=now)


def _payment_intent_of(stripe_object: Object) -> str:
    """Return the payment of a charge that went back, and name it on the object, which may have only the charge."""
    if not stripe_object.get("payment_intent"):
        charge = stripe_object["charge"]
        charge = charge if isinstance(charge, dict) else gateway.retrieve("charges", charge)
        stripe_object["payment_intent"] = charge["payment_intent"]
    payment_intent = stripe_object["payment_intent"]
    return str(payment_intent["id"] if isinstance(payment_intent, dict) else payment_intent or "")


def _take_over(stripe_invoice_id: str, payment_intent: str, *, now: datetime) -> None:
    data = gateway.retrieve("invoices", stripe_invoice_id)
    try:
        invoice = invoices.receive(data, now=now)
    except invoices.CustomerUnknown:
        return
    purchases.receive(invoice, data, now=now)
    InvoicePayment.objects.get_or_create(
        stripe_payment_intent_id=payment_intent, defaults={"organization": invoice.organization, "invoice": invoice}
    )
    for note in gateway.list_all("credit_notes", {"invoice": stripe_invoice_id}):
        credit_notes.receive(note, now=now)
