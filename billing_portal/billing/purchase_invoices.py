"""Buying with the saved card: an invoice of its own, held back from Stripe's own clock, charged by us."""

from datetime import datetime, timedelta
from functools import partial

import structlog

from billing_portal.billing import (
    card_records,
    cards,
    customers,
    declines,
    gateway,
    intents,
    invoice_lines,
    invoices,
    minor_units,
    purchases,
)
from billing_portal.billing.models import Customer, Invoice, PaymentMethod, Purchase
from billing_portal.billing.tax import automatic, records
from billing_portal.ledger import accounts

log = structlog.get_logger(__name__)

State = Purchase.State
# A declined automatic purchase is tried again so much later each time, then no more (F35).
RETRY_AFTER = (timedelta(hours=1), timedelta(hours=8), timedelta(hours=24))
# How long a bank's question may stay unanswered (F32).
ACTION_EXPIRES_AFTER = timedelta(hours=24)


def advance(purchase: Purchase, *, now: datetime) -> None:
    """Draft, finalize and charge the purchase's invoice, or close it, as far as that can go now."""
    invoice = _invoice(purchase, now=now)
    if invoice is None:
        purchases.end(purchase, now=now)
        return
    if invoice.state == Invoice.State.DRAFT and purchase.is_given_up:
        invoice = _discard(purchase, invoice, now=now)
    elif invoice.state == Invoice.State.DRAFT:
        invoice = _finalize(purchase, invoice, now=now)
    if invoice.state == Invoice.State.OPEN:
        invoice = _collect(purchase, invoice, now=now)
    if invoice.state == Invoice.State.PAID:
        invoice_lines.store(invoice)
        records.store(invoice, now=now)
    purchases.follow(purchase, invoice, now=now)


def _invoice(purchase: Purchase, *, now: datetime) -> Invoice | None:
    """Return the purchase's invoice as Stripe has it now, drafted if it is not there yet; None for a deleted draft."""
    customer = customers.ensure(purchase.organization, now=now)
    reference = f"{purchase.reference}:invoice"
    stripe_id = intents.perform(
        organization=purchase.organization,
        verb="draft purchase",
        reference=reference,
        params=intents.recorded_params(reference) or _draft(purchase, customer),
        call=partial(gateway.create, "invoices"),
        look_up=lambda: find("invoices", {"customer": customer.stripe_customer_id}, purchase),
        now=now,
    )
    try:
        invoice = receive(stripe_id, now=now)
    except gateway.NotFound:
        return None
    purchases.link(purchase, invoice)
    return invoice


def _draft(purchase: Purchase, customer: Customer) -> dict[str, object]:
    return {
        "customer": customer.stripe_customer_id,
        "currency": purchase.currency.lower(),
        "collection_method": "charge_automatically",
        "auto_advance": False,
        "pending_invoice_items_behavior": "exclude",
        "automatic_tax": {"enabled": automatic.is_wanted(customer)},
        "description": purchase.title,
        "metadata": metadata(purchase),
    }


def _finalize(purchase: Purchase, invoice: Invoice, *, now: datetime) -> Invoice:
    """Put what is bought on the draft, and finalize it without letting Stripe charge by itself."""
    intents.perform(
        organization=purchase.organization,
        verb="create purchase line",
        reference=f"{purchase.reference}:line",
        params={
            "customer": purchase.organization.customer.stripe_customer_id,
            "invoice": invoice.stripe_invoice_id,
            "amount": minor_units.from_micros(purchase.amount_micros, purchase.currency),
            "currency": purchase.currency.lower(),
            "description": purchase.title,
            "tax_behavior": "exclusive",
            "metadata": metadata(purchase),
        },
        call=partial(gateway.create, "invoice_items"),
        look_up=lambda: find("invoice_items", {"invoice": invoice.stripe_invoice_id}, purchase),
        now=now,
    )
    automatic.check(invoice, now=now)
    intents.perform(
        organization=purchase.organization,
        verb="finalize purchase",
        reference=f"{purchase.reference}:finalize",
        params={"auto_advance": False},
        call=partial(gateway.act, "invoices", "finalize_invoice", invoice.stripe_invoice_id),
        look_up=lambda: _retrieve_unless(invoice, "draft"),
        now=now,
    )
    return receive(invoice.stripe_invoice_id, now=now)


def _collect(purchase: Purchase, invoice: Invoice, *, now: datetime) -> Invoice:
    """Charge the open invoice if that is due, and close it if it is given up."""
    if purchase.expires_at is not None and now >= purchase.expires_at:
        late = "The bank's confirmation was not given in time." if purchase.is_automatic else ""
        purchases.give_up(purchase, failure=late, now=now)
    if purchase.state == State.PAYING and not purchase.is_given_up and _is_due(purchase, now):
        invoice = _try(purchase, invoice, now=now)
    if purchase.is_given_up and invoice.state == Invoice.State.OPEN:
        invoice = _void(purchase, invoice, now=now)
    return invoice


def _is_due(purchase: Purchase, now: datetime) -> bool:
    """Say whether an attempt may go on, or the next one begin."""
    return purchase.attempts > purchase.declines or purchase.due_at is None or purchase.due_at <= now


def _try(purchase: Purchase, invoice: Invoice, *, now: datetime) -> Invoice:
    """Charge the card, once an attempt; a decline is no error."""
    _begin_attempt(purchase)
    if purchase.payment_method is None:
        purchases.give_up(purchase, failure="No card is saved.", now=now)
        return invoice
    if card_records.is_refused(purchase.payment_method.funding):
        purchases.give_up(purchase, failure=cards.PREPAID_REFUSAL, now=now)
        return invoice
    try:
        intents.perform(
            organization=purchase.organization,
            verb="pay purchase",
            reference=f"{purchase.reference}:pay:{purchase.attempts}",
            params={
                "payment_method": purchase.payment_method.stripe_payment_method_id,
                "off_session": purchase.is_automatic,
            },
            call=partial(gateway.act, "invoices", "pay", invoice.stripe_invoice_id),
            look_up=lambda: _retrieve_unless(invoice, "open"),
            now=now,
        )
    except gateway.Refused as error:
        invoice = receive(invoice.stripe_invoice_id, now=now)
        if invoice.state == Invoice.State.OPEN:
            _take_refusal(purchase, error, now=now)
        return invoice
    return receive(invoice.stripe_invoice_id, now=now)


def _begin_attempt(purchase: Purchase) -> None:
    """Commit which card is charged before it is: an attempt that was cut short goes on with its own (F44).

    A person's purchase charges the card that was shown, an automatic one the default of then. Raises AccountFrozen.
    """
    if purchase.attempts > purchase.declines:
        return
    account = purchase.organization.account
    if account.frozen_at is not None:
        raise accounts.AccountFrozen(account)
    if purchase.is_automatic:
        cards = PaymentMethod.objects.filter(organization=purchase.organization, removed_at=None, is_default=True)
        purchase.payment_method = cards.first()
    purchase.attempts += 1
    purchase.save(update_fields=["attempts", "payment_method"])


def _take_refusal(purchase: Purchase, error: gateway.Refused, *, now: datetime) -> None:
    """Ask the card's owner, try again later, or give up."""
    decline = declines.of(code=error.code, decline_code=error.decline_code)
    if decline.asks_owner:
        expires_at = now + ACTION_EXPIRES_AFTER
        note = "The bank wants the card's owner to confirm."
        purchases.move(purchase, State.NEEDS_ACTION, note=note, expires_at=expires_at, now=now)
        return
    retries = RETRY_AFTER if purchase.is_automatic else ()
    may_help = decline.may_recover and purchase.declines < len(retries)
    again_at = now + retries[purchase.declines] if may_help else None
    purchases.decline(purchase, error.message, again_at=again_at, now=now)


def _discard(purchase: Purchase, invoice: Invoice, *, now: datetime) -> Invoice:
    """Delete a draft that will not be paid."""
    intents.perform(
        organization=purchase.organization,
        verb="discard purchase",
        reference=f"{purchase.reference}:discard",
        params={},
        call=partial(gateway.act, "invoices", "delete", invoice.stripe_invoice_id),
        look_up=lambda: _retrieve_unless(invoice, "draft"),
        now=now,
    )
    invoices.discard(invoice, now=now)
    invoice.refresh_from_db()
    return invoice


def _void(purchase: Purchase, invoice: Invoice, *, now: datetime) -> Invoice:
    """Void an invoice that will not be paid; one that was paid a moment before stays paid."""
    try:
        intents.perform(
            organization=purchase.organization,
            verb="void purchase",
            reference=f"{purchase.reference}:void",
            params={},
            call=partial(gateway.act, "invoices", "void_invoice", invoice.stripe_invoice_id),
            look_up=lambda: _retrieve_unless(invoice, "open"),
            again=True,
            now=now,
        )
    except gateway.Refused:
        log.warning("purchase not voided", purchase_id=purchase.pk, organization_id=purchase.organization_id)
    return receive(invoice.stripe_invoice_id, now=now)


def metadata(purchase: Purchase) -> dict[str, str]:
    """Return what tells, on Stripe's objects, which purchase they belong to."""
    return {"purchase": str(purchase.public_id), "organization": str(purchase.organization.public_id)}


def receive(stripe_invoice_id: str, *, now: datetime) -> Invoice:
    """Take over an invoice as Stripe has it now. Raises gateway.NotFound."""
    return invoices.receive(gateway.retrieve("invoices", stripe_invoice_id), now=now)


def find(kind: gateway.Kind, params: dict[str, str], purchase: Purchase) -> gateway.Object | None:
    """Return the object that a lost answer may have made for the purchase."""
    mine = str(purchase.public_id)
    found = (each for each in gateway.list_all(kind, params) if (each.get("metadata") or {}).get("purchase") == mine)
    return next(found, None)


def _retrieve_unless(invoice: Invoice, status: str) -> gateway.Object | None:
    """Return the invoice if Stripe has it in another state than `status`, or no more: the write had its effect."""
    try:
        found = gateway.retrieve("invoices", invoice.stripe_invoice_id)
    except gateway.NotFound:
        return {"id": invoice.stripe_invoice_id}
    return found if found["status"] != status else None
