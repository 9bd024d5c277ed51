"""Buying in Stripe Checkout: a session, for which Stripe makes the invoice once it is paid."""

from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from billing_portal.billing import customers, gateway, intents, invoice_lines, minor_units, purchases
from billing_portal.billing.models import Customer, Purchase
from billing_portal.billing.purchase_invoices import find, metadata, receive
from billing_portal.billing.tax import automatic, details, records

log = structlog.get_logger(__name__)

# How long a Checkout may stay unpaid (F32).
EXPIRES_AFTER = timedelta(hours=1)


def advance(purchase: Purchase, *, now: datetime) -> None:
    """Open the purchase's session, or close it, and take over what became of it."""
    session = _session(purchase, now=now)
    if session["status"] == "open" and purchase.is_given_up:
        session = _expire(purchase, session, now=now)
    if session.get("invoice"):
        invoice = receive(session["invoice"], now=now)
        purchases.link(purchase, invoice)
        invoice_lines.store(invoice)
        records.store(invoice, now=now)
    if session["payment_status"] == "paid":
        _keep_presentment(purchase, session)
        purchases.take_payment(purchase, (session["amount_subtotal"], session["currency"].upper()), now=now)
        _finish_checkout(purchase)
    elif session["status"] == "expired":
        purchases.end(purchase, now=now)


def _session(purchase: Purchase, *, now: datetime) -> gateway.Object:
    """Return the Checkout session as Stripe has it now, opened if it is not there yet."""
    customer = customers.ensure(purchase.organization, now=now)
    reference = f"{purchase.reference}:session"
    stripe_id = intents.perform(
        organization=purchase.organization,
        verb="open checkout",
        reference=reference,
        params=intents.recorded_params(reference) or _session_params(purchase, customer, now),
        call=partial(gateway.create, "checkout.sessions"),
        look_up=lambda: find("checkout.sessions", {"customer": customer.stripe_customer_id}, purchase),
        now=now,
    )
    session = gateway.retrieve("checkout.sessions", stripe_id)
    Purchase.objects.filter(pk=purchase.pk).update(
        stripe_session_id=stripe_id,
        checkout_url=session["url"] or "",
        expires_at=datetime.fromtimestamp(session["expires_at"], UTC),
    )
    purchase.refresh_from_db()
    return session


def _session_params(purchase: Purchase, customer: Customer, now: datetime) -> dict[str, object]:
    price = {
        "currency": purchase.currency.lower(),
        "unit_amount": minor_units.from_micros(purchase.amount_micros, purchase.currency),
        "product_data": {"name": purchase.title},
        "tax_behavior": "exclusive",
    }
    details.send(purchase.organization, now=now)
    newest = details.current(purchase.organization)
    named, is_taxed = metadata(purchase), automatic.is_wanted(customer)
    invoice_data: dict[str, object] = {"description": purchase.title, "metadata": named}
    if newest is not None and newest.purchase_order:
        invoice_data["custom_fields"] = details.custom_fields(newest)
    params: dict[str, object] = {
        "mode": "payment",
        "customer": customer.stripe_customer_id,
        "client_reference_id": str(purchase.public_id),
        "line_items": [{"price_data": price, "quantity": 1}],
        "adaptive_pricing": {"enabled": True},
        "automatic_tax": {"enabled": is_taxed},
        "invoice_creation": {"enabled": True, "invoice_data": invoice_data},
        "payment_intent_data": {"metadata": named},
        "metadata": named,
        "expires_at": int((now + EXPIRES_AFTER).timestamp()),
        "success_url": purchase.return_url,
        "cancel_url": purchase.return_url,
    }
    return params | ({"customer_update": {"address": "auto"}} if is_taxed else {})


def _keep_presentment(purchase: Purchase, session: gateway.Object) -> None:
    """Keep what it was paid in (Adaptive Pricing); what it gives is of the account's currency all the same."""
    paid = session.get("presentment_details")
    if paid and paid["presentment_currency"].upper() != purchase.currency:
        Purchase.objects.filter(pk=purchase.pk, presentment_minor=None).update(
            presentment_currency=paid["presentment_currency"].upper(), presentment_minor=paid["presentment_amount"]
        )
        purchase.refresh_from_db()


def _expire(purchase: Purchase, session: gateway.Object, *, now: datetime) -> gateway.Object:
    """Close a session that will not be paid; one that was paid a moment before stays paid."""
    try:
        intents.perform(
            organization=purchase.organization,
            verb="expire checkout",
            reference=f"{purchase.reference}:expire",
            params={},
            call=partial(gateway.act, "checkout.sessions", "expire", session["id"]),
            look_up=lambda: _session_unless_open(session["id"]),
            again=True,
            now=now,
        )
    except gateway.Refused:
        log.warning("checkout not expired", purchase_id=purchase.pk, organization_id=purchase.organization_id)
    return gateway.retrieve("checkout.sessions", session["id"])


def _finish_checkout(purchase: Purchase) -> None:
    """Nothing is left to do once the invoice is here, which Stripe makes after the payment."""
    Purchase.objects.filter(pk=purchase.pk, state=Purchase.State.CREDITED, invoice__isnull=False).update(due_at=None)
    purchase.refresh_from_db()


def _session_unless_open(stripe_session_id: str) -> gateway.Object | None:
    found = gateway.retrieve("checkout.sessions", stripe_session_id)
    return found if found["status"] != "open" else None
