"""Refunds, chargebacks and fraud warnings: what becomes of the credit or the debt behind a payment (F37, F38).

Each is a row of its own by Stripe's id, moving only forward. What follows for the books is derived from all rows of the
invoice, never from an event: credit that was bought is held while its payment is disputed, comes back when that is won,
and is gone when it is lost or refunded; what was spent of it is owed. Usage that was paid and refunded without a credit
note, or charged back, is owed again.
"""

from datetime import UTC, datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet, Sum

from accounts.models import User
from billing_portal.billing import bucket_claims, claim_letters, crediting, interims, minor_units
from billing_portal.billing.models import (
    Chargeback,
    CreditNote,
    FraudWarning,
    Invoice,
    InvoicePayment,
    Purchase,
    Refund,
)
from billing_portal.ledger import accounts, credits
from billing_portal.ledger import claims as books
from billing_portal.ledger.models import Grant

log = structlog.get_logger(__name__)

_REFUND_FAILED = "A refund to your card failed; it is given as credit instead"
_WON = {"won", "warning_closed", "prevented"}


def receive_refund(stripe_refund: dict[str, Any], *, now: datetime) -> Refund | None:
    """Take over a refund, in any order and any number of times; None for one that gives back no invoice of ours."""
    invoice = invoice_of(stripe_refund)
    if invoice is None:
        return None
    with transaction.atomic():
        accounts.lock(invoice.organization_id)
        refund, _ = Refund.objects.get_or_create(
            stripe_refund_id=stripe_refund["id"],
            defaults={
                "organization": invoice.organization,
                "invoice": invoice,
                "currency": stripe_refund["currency"].upper(),
                "amount_minor": stripe_refund["amount"],
                "made_at": datetime.fromtimestamp(stripe_refund["created"], UTC),
            },
        )
        state = Refund.State(_REFUND_STATES.get(stripe_refund["status"], Refund.State.PENDING))
        if Refund.RANKS[Refund.State(refund.state)] < Refund.RANKS[state]:
            refund.state, refund.failure = state, (stripe_refund.get("failure_reason") or "")[:100]
            refund.save()
        follow(invoice, reason="Refunded to your card", now=now)
    log.info("refund received", refund_id=refund.pk, organization_id=refund.organization_id, state=str(refund.state))
    return refund


def receive_chargeback(stripe_dispute: dict[str, Any], *, now: datetime) -> Chargeback | None:
    """Take over a dispute of a charge; None for one of a charge that paid no invoice of ours."""
    invoice = invoice_of(stripe_dispute)
    if invoice is None:
        return None
    state = _state_of(stripe_dispute["status"])
    due_by = (stripe_dispute.get("evidence_details") or {}).get("due_by")
    with transaction.atomic():
        accounts.lock(invoice.organization_id)
        chargeback, is_new = Chargeback.objects.get_or_create(
            stripe_dispute_id=stripe_dispute["id"],
            defaults={
                "organization": invoice.organization,
                "invoice": invoice,
                "stripe_charge_id": _id(stripe_dispute["charge"]),
                "currency": stripe_dispute["currency"].upper(),
                "amount_minor": stripe_dispute["amount"],
                "reason": stripe_dispute["reason"],
                "status": stripe_dispute["status"],
                "state": state,
                "opened_at": datetime.fromtimestamp(stripe_dispute["created"], UTC),
            },
        )
        if Chargeback.RANKS[Chargeback.State(chargeback.state)] <= Chargeback.RANKS[state] and (
            chargeback.closed_at is None
        ):
            chargeback.status, chargeback.state = stripe_dispute["status"], state
            chargeback.evidence_due_at = datetime.fromtimestamp(due_by, UTC) if due_by else None
            chargeback.closed_at = now if state in _CLOSED else None
            chargeback.save()
        if is_new:
            claim_letters.tell_of_chargeback(chargeback, now=now)
        follow(invoice, reason=_CHARGEBACK_REASONS[Chargeback.State(chargeback.state)], now=now)
    log.warning(
        "chargeback received",
        chargeback_id=chargeback.pk,
        organization_id=chargeback.organization_id,
        state=str(chargeback.state),
        is_new=is_new,
    )
    return chargeback


def receive_warning(stripe_warning: dict[str, Any], *, now: datetime) -> FraudWarning | None:
    """Take over what an issuer warns of; whether it holds credit is decided once, by the setting of that moment."""
    invoice = invoice_of(stripe_warning)
    if invoice is None:
        return None
    with transaction.atomic():
        accounts.lock(invoice.organization_id)
        warning, is_new = FraudWarning.objects.get_or_create(
            stripe_warning_id=stripe_warning["id"],
            defaults={
                "organization": invoice.organization,
                "invoice": invoice,
                "stripe_charge_id": _id(stripe_warning["charge"]),
                "fraud_type": stripe_warning["fraud_type"],
                "holds_credit": settings.FRAUD_WARNING_HOLDS_CREDIT,
                "warned_at": datetime.fromtimestamp(stripe_warning["created"], UTC),
            },
        )
        if not stripe_warning["actionable"]:
            warning.state = FraudWarning.State.SETTLED
            warning.save(update_fields=["state"])
        if is_new:
            claim_letters.tell_of_warning(warning, now=now)
        follow(invoice, reason="The card's bank reported the payment as fraud", now=now)
    if is_new:
        log.error("fraud warned of", warning_id=warning.pk, organization_id=warning.organization_id)
    return warning


def dismiss(warning: FraudWarning, *, by: User, now: datetime) -> None:
    """Let a payment be that an issuer warned of; credit that was held for it comes back. Doing it twice is once."""
    with transaction.atomic():
        accounts.lock(warning.organization_id)
        warning.refresh_from_db()
        if warning.state == FraudWarning.State.OPEN:
            warning.state, warning.decided_by, warning.decided_at = FraudWarning.State.DISMISSED, by, now
            warning.save(update_fields=["state", "decided_by", "decided_at"])
        follow(warning.invoice, reason="The payment was looked at and is in order", now=now)


def invoice_of(stripe_object: dict[str, Any]) -> Invoice | None:
    """Return the invoice whose payment a refund, a dispute or a warning is about, once `claim_sources` has seen it."""
    payment = InvoicePayment.objects.select_related("invoice__organization")
    found = payment.filter(stripe_payment_intent_id=_id(stripe_object.get("payment_intent"))).first()
    return found.invoice if found else None


def follow(invoice: Invoice, *, reason: str, now: datetime) -> None:
    """Bring the books to what the rows of an invoice come to; when nothing changed, nothing happens.

    Raises what `accounts.lock` raises.
    """
    if not _is_touched(invoice):
        return
    purchase = Purchase.objects.filter(invoice=invoice).select_related("organization", "grant", "bucket").first()
    bills_usage = invoice.month is not None or interims.of_invoice(invoice) is not None
    with transaction.atomic():
        accounts.lock(invoice.organization_id)
        if purchase is not None and purchase.grant is not None:
            _claim_credit(purchase, purchase.grant, invoice, reason=reason, now=now)
        elif purchase is not None and purchase.bucket is not None:
            claimed, held = _of_purchase(invoice)
            bucket_claims.follow(
                purchase, purchase.bucket, claimed_micros=claimed, held_micros=held, reason=reason, now=now
            )
        elif bills_usage:
            _claim_debt(invoice, reason=reason, now=now)


def subject_of(invoice: Invoice) -> str:
    """Return the name under which the ledger keeps what went back of an invoice's payment."""
    purchase = Purchase.objects.filter(invoice=invoice).first()
    return purchase.reference if purchase is not None else f"invoice:{invoice.stripe_invoice_id}"


def touched(organization_id: int) -> QuerySet[Invoice]:
    """Return the invoices of which something went back for good, or did once."""
    ids: set[int] = set()
    for kind in (Refund, Chargeback, CreditNote):
        ids.update(kind.objects.filter(organization_id=organization_id).values_list("invoice_id", flat=True))
    return Invoice.objects.filter(pk__in=ids).order_by("id")


def basis(invoice: Invoice) -> dict[str, Any]:
    """Return what is known of an invoice whose payment went back: what it billed, and each part by Stripe's id."""
    purchase = Purchase.objects.filter(invoice=invoice).first()
    refunds = _refunds(invoice)
    if purchase is None:
        refunds = refunds.exclude(stripe_refund_id__in=_noted(invoice))
    parts = [["refund", each.stripe_refund_id, each.amount_minor] for each in refunds.order_by("id")]
    lost = _chargebacks(invoice, Chargeback.State.LOST).order_by("id")
    parts += [["chargeback", each.stripe_dispute_id, each.amount_minor] for each in lost]
    notes = CreditNote.objects.filter(invoice=invoice, state=CreditNote.State.ISSUED).order_by("id")
    if purchase is not None:
        parts += [
            ["credit_note", each.stripe_credit_note_id, minor]
            for each in notes
            if (minor := each.post_minor - each.refunded_minor)
        ]
    return {
        "billed": purchase.kind if purchase is not None else "usage",
        "invoice": invoice.stripe_invoice_id,
        "number": invoice.number,
        "tax_minor": invoice.tax_minor,
        "total_minor": invoice.total_minor,
        "went_back": parts,
    }


def _is_touched(invoice: Invoice) -> bool:
    """Say whether anything of the invoice ever went back; rows stay, so what is undone is still touched."""
    kinds = (Refund, Chargeback, FraudWarning, CreditNote)
    return any(kind.objects.filter(invoice=invoice).exists() for kind in kinds)


def gone_micros(invoice: Invoice) -> int:
    """Return what went back for good of a purchase's invoice, before tax: to the card, or to the customer balance."""
    return _net_micros(invoice, _gone_minor(invoice))


def _of_purchase(invoice: Invoice) -> tuple[int, int]:
    """Return what of a purchase's payment went back for good, and that with what is disputed: before tax, in micros."""
    gone = _gone_minor(invoice)
    at_stake = _sum(_chargebacks(invoice, Chargeback.State.OPEN), "amount_minor")
    if FraudWarning.objects.filter(invoice=invoice, state=FraudWarning.State.OPEN, holds_credit=True).exists():
        at_stake = invoice.total_minor
    return _net_micros(invoice, gone), _net_micros(invoice, gone + at_stake)


def _gone_minor(invoice: Invoice) -> int:
    notes = CreditNote.objects.filter(invoice=invoice, state=CreditNote.State.ISSUED)
    elsewhere = _sum(notes, "post_minor") - _sum(notes, "refunded_minor")
    lost = _sum(_chargebacks(invoice, Chargeback.State.LOST), "amount_minor")
    return _sum(_refunds(invoice), "amount_minor") + elsewhere + lost


def _claim_credit(purchase: Purchase, grant: Grant, invoice: Invoice, *, reason: str, now: datetime) -> None:
    """Hold a purchase's credit to what its payment still is. A share of the payment is that share of the credit."""
    claimed, held = _of_purchase(invoice)
    books.claim_credit(
        organization=purchase.organization,
        grant_id=grant.pk,
        claimed_micros=claimed,
        held_micros=held,
        subject=purchase.reference,
        reason=reason,
        now=now,
    )


def _claim_debt(invoice: Invoice, *, reason: str, now: datetime) -> None:
    """Owe again what was paid for usage and went back, unless a credit note says that it was to go back."""
    noted = _noted(invoice)
    gone = _sum(_refunds(invoice).exclude(stripe_refund_id__in=noted), "amount_minor")
    gone += _sum(_chargebacks(invoice, Chargeback.State.LOST), "amount_minor")
    failed = Refund.objects.filter(invoice=invoice, stripe_refund_id__in=noted).exclude(state__in=Refund.GONE)
    kept = {refund: _net_micros(invoice, refund.amount_minor) for refund in failed.order_by("id")}
    books.claim_debt(
        organization=invoice.organization,
        owed_micros=_net_micros(invoice, gone),
        uncredited_micros=sum(kept.values()),
        subject=subject_of(invoice),
        reason=reason,
        now=now,
    )
    for refund, micros in kept.items():
        credits.grant(
            organization=invoice.organization,
            kind=Grant.Kind.CORRECTION,
            micros=micros,
            reference=f"refund_failed:{refund.stripe_refund_id}",
            reason=_REFUND_FAILED,
            now=now,
        )


def _noted(invoice: Invoice) -> set[str]:
    """Return the refunds that credit notes made: they were to go back."""
    issued = CreditNote.objects.filter(invoice=invoice, state=CreditNote.State.ISSUED)
    return {stripe_id for ids in issued.values_list("stripe_refund_ids", flat=True) for stripe_id in ids}


_CLOSED = {Chargeback.State.WON, Chargeback.State.LOST}
_CHARGEBACK_REASONS = {
    Chargeback.State.INQUIRY: "The card's bank asks about the payment",
    Chargeback.State.OPEN: "The payment is disputed at the card's bank",
    Chargeback.State.WON: "The dispute at the card's bank was decided in our favor",
    Chargeback.State.LOST: "The card's bank took the payment back",
}
_REFUND_STATES = {"succeeded": Refund.State.SUCCEEDED, "failed": Refund.State.FAILED, "canceled": Refund.State.CANCELED}


def _state_of(status: str) -> Chargeback.State:
    """Return our state of a dispute by Stripe's status: `warning_…` ones are inquiries, which withdraw no money."""
    if status in _WON:
        return Chargeback.State.WON
    if status == "lost":
        return Chargeback.State.LOST
    return Chargeback.State.INQUIRY if status.startswith("warning") else Chargeback.State.OPEN


def _refunds(invoice: Invoice) -> QuerySet[Refund]:
    return Refund.objects.filter(invoice=invoice, state__in=Refund.GONE)


def _chargebacks(invoice: Invoice, state: Chargeback.State) -> QuerySet[Chargeback]:
    return Chargeback.objects.filter(invoice=invoice, state=state)


def _net_micros(invoice: Invoice, gross_minor: int) -> int:
    """Return the part before tax of what went back, at most the invoice's own, in micros."""
    net = crediting.net_minor(invoice, min(gross_minor, invoice.total_minor))
    return minor_units.to_micros(net, invoice.currency)


def _sum(rows: QuerySet[Any], column: str) -> int:
    return int(rows.aggregate(sum=Sum(column))["sum"] or 0)


def _id(value: Any) -> str:
    return str(value["id"] if isinstance(value, dict) else value or "")
