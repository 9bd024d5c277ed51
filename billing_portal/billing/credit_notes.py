"""Credit notes: lowering a finalized invoice without changing a byte of it (I12).

Asked for here, once per reference; `credit_note_issuing` makes them at Stripe. What comes back arrives in `receive`, in
any order and any number of times, as does a note that somebody made at Stripe. An open invoice is lowered; of a paid
one the money goes back to the card or to the customer balance.
"""

from datetime import UTC, datetime
from typing import Any

import structlog
from django.db import transaction

from accounts.models import User
from billing_portal.billing import claims, crediting, invoices, minor_units
from billing_portal.billing.models import CreditNote, Invoice, Purchase
from billing_portal.ledger import accounts, write_offs
from billing_portal.ledger import credit_notes as books

log = structlog.get_logger(__name__)

Cause, State, To = CreditNote.Cause, CreditNote.State, CreditNote.To
_CREDITABLE = {Invoice.State.OPEN, Invoice.State.PAID, Invoice.State.UNCOLLECTIBLE}


class NotCreditable(Exception):
    """The invoice is a draft or void, its debt is written off, or it bills credit that is not paid for yet."""

    def __init__(self, invoice: Invoice, because: str) -> None:
        super().__init__(f"No credit note can be made for {invoice}: {because}")
        self.invoice = invoice


class AmountRefused(ValueError):
    """The amount is less than one minor unit, or more than what is left of the invoice."""

    def __init__(self, micros: int, left_micros: int, currency: str) -> None:
        super().__init__(f"{micros} micros of {currency} cannot be credited; {left_micros} are left of the invoice.")
        self.micros = micros
        self.left_micros = left_micros
        self.currency = currency


class ReferenceReused(Exception):
    """The reference names another credit note."""

    def __init__(self, note: CreditNote) -> None:
        super().__init__(f"{note.reference} is a credit note over another amount or invoice.")
        self.note = note


class InvoiceUnknown(Exception):
    """A credit note of an invoice that we have never heard of; its event is tried again."""


def ask(
    *,
    invoice: Invoice,
    micros: int,
    reason: str,
    reference: str,
    cause: CreditNote.Cause,
    now: datetime,
    to: CreditNote.To = To.CARD,
    by: User | None = None,
) -> CreditNote:
    """Record that a finalized invoice is to be lowered by `micros` before tax, once per `reference`.

    Call it in any transaction; a worker makes the note at Stripe, and `credit_note_tasks.ask_to_issue` hurries it. Tax
    comes on top, in the invoice's own proportion. `reason` is for the customer to read. Where the invoice is paid by
    then, the money goes `to` the card as far as a charge is left, and to the customer balance otherwise.

    Raises NotCreditable, AmountRefused, ReferenceReused, and what `accounts.lock` raises.
    """
    with transaction.atomic():
        accounts.lock(invoice.organization_id)
        known = CreditNote.objects.filter(organization=invoice.organization_id, reference=reference).first()
        if known is not None:
            if (known.invoice_id, known.amount_micros, known.cause) != (invoice.pk, micros, cause):
                raise ReferenceReused(known)
            return known
        invoice.refresh_from_db()
        assert_creditable(invoice)
        gross = crediting.gross_minor(invoice, micros)
        left = crediting.left_micros(invoice)
        if not (gross > 0 and minor_units.from_micros(micros, invoice.currency) > 0 and micros <= left):
            raise AmountRefused(micros, left, invoice.currency)
        gone = invoice.total_minor - crediting.left_minor(invoice)
        net = crediting.net_minor(invoice, gone + gross) - crediting.net_minor(invoice, gone)
        note = CreditNote.objects.create(
            organization=invoice.organization,
            invoice=invoice,
            reference=reference,
            cause=cause,
            to=to,
            reason=reason,
            currency=invoice.currency,
            amount_micros=micros,
            net_minor=net,
            tax_minor=gross - net,
            total_minor=gross,
            asked_by=by,
            asked_at=now,
            due_at=now,
        )
    log.info("credit note asked for", credit_note_id=note.pk, organization_id=note.organization_id, micros=micros)
    return note


def assert_creditable(invoice: Invoice) -> None:
    """Raise NotCreditable unless a credit note can be made for the invoice."""
    if invoice.state not in _CREDITABLE:
        raise NotCreditable(invoice, f"it is {invoice.get_state_display().lower()}.")
    purchase = Purchase.objects.filter(invoice=invoice).first()
    if purchase is not None and (invoice.state != Invoice.State.PAID or purchase.state != Purchase.State.CREDITED):
        raise NotCreditable(invoice, f"the {purchase.get_kind_display().lower()} it bills is not paid for yet.")
    if purchase is None and invoices.usage_month(invoice) is None:
        raise NotCreditable(invoice, "it bills neither usage nor a purchase.")
    if write_offs.given_up(invoice.organization_id, invoices.collect_reference(invoice)).exists():
        raise NotCreditable(invoice, "its debt is written off.")


def refuse(note: CreditNote, *, failure: str) -> None:
    """Note that Stripe refused it for good: a person has to look."""
    CreditNote.objects.filter(pk=note.pk, state=State.ASKED).update(
        state=State.REFUSED, failure=failure[:300], due_at=None
    )
    note.refresh_from_db()
    log.error("credit note refused", credit_note_id=note.pk, organization_id=note.organization_id)


def retry(note: CreditNote, *, now: datetime) -> None:
    """Have a refused note made after all. Raises AmountRefused if less is left of the invoice by now."""
    with transaction.atomic():
        accounts.lock(note.organization_id)
        note.refresh_from_db()
        if note.state == State.REFUSED:
            if note.total_minor > crediting.left_minor(note.invoice):
                raise AmountRefused(note.amount_micros, crediting.left_micros(note.invoice), note.currency)
            note.state, note.failure, note.due_at = State.ASKED, "", now
            note.save(update_fields=["state", "failure", "due_at"])


def receive(stripe_note: dict[str, Any], *, now: datetime) -> CreditNote:
    """Take over a credit note as Stripe tells it, in any order and any number of times; return ours.

    Lowers the debt, or what was paid for it, in the ledger, once (I13). Raises InvoiceUnknown, and what the ledger
    raises.
    """
    invoice = Invoice.objects.select_related("organization").filter(stripe_invoice_id=stripe_note["invoice"]).first()
    if invoice is None:
        raise InvoiceUnknown(stripe_note["invoice"])
    with transaction.atomic():
        accounts.lock(invoice.organization_id)
        note = _find(invoice, stripe_note) or _taken_over(invoice, stripe_note, now=now)
        before = note.state
        if before != State.VOID:
            _copy(note, stripe_note, now=now)
        if before != note.state and invoices.usage_month(invoice) is not None:
            _post(note, invoice, now=now)
        claims.follow(invoice, reason=note.reason, now=now)
    if before != note.state:
        log.info(
            "credit note moved", credit_note_id=note.pk, organization_id=note.organization_id, state=str(note.state)
        )
    return note


def prefix(invoice: Invoice) -> str:
    """Return how the ledger's references of an invoice's credit notes begin."""
    return f"credit_note:{invoice.stripe_invoice_id}:"


def _find(invoice: Invoice, data: dict[str, Any]) -> CreditNote | None:
    """Return the row of a note, by Stripe's id, or by ours in its metadata while it has none."""
    rows = CreditNote.objects.filter(invoice=invoice)
    known = rows.filter(stripe_credit_note_id=data["id"]).first()
    named = (data.get("metadata") or {}).get("credit_note")
    if known is None and named:
        known = rows.filter(public_id=named, stripe_credit_note_id=None).first()
    return known


def _taken_over(invoice: Invoice, data: dict[str, Any], *, now: datetime) -> CreditNote:
    """Return a row for a note that somebody made at Stripe."""
    return CreditNote(
        organization=invoice.organization,
        invoice=invoice,
        reference=f"stripe:{data['id']}",
        cause=Cause.STRIPE,
        reason=(data.get("memo") or "Made at Stripe")[:400],
        currency=invoice.currency,
        amount_micros=minor_units.to_micros(_net(data), invoice.currency),
        asked_at=now,
    )


def _copy(note: CreditNote, data: dict[str, Any], *, now: datetime) -> None:
    note.stripe_credit_note_id = data["id"]
    note.state = State.VOID if data["status"] == "void" else State.ISSUED
    note.failure, note.due_at = "", None
    note.number = data.get("number") or ""
    note.pdf_url = data.get("pdf") or ""
    note.total_minor = data["total"]
    note.net_minor = _net(data)
    note.tax_minor = note.total_minor - note.net_minor
    note.pre_minor = data["pre_payment_amount"]
    note.post_minor = data["post_payment_amount"]
    note.stripe_refund_ids = [each["refund"] for each in data.get("refunds") or [] if each.get("refund")]
    note.refunded_minor = sum(each["amount_refunded"] for each in data.get("refunds") or [])
    note.balance_minor = note.post_minor - note.refunded_minor - (data.get("out_of_band_amount") or 0)
    note.issued_at = note.issued_at or datetime.fromtimestamp(data["created"], UTC)
    if note.state == State.VOID:
        note.voided_at = datetime.fromtimestamp(data["voided_at"], UTC) if data.get("voided_at") else now
    note.save()


def _net(data: dict[str, Any]) -> int:
    net = data.get("total_excluding_tax")
    return int(data["total"] if net is None else net)


def _post(note: CreditNote, invoice: Invoice, *, now: datetime) -> None:
    """Bring the ledger to what all issued notes of the invoice come to, under the account's lock.

    The amounts follow from their sums, rounded once, so the order in which they arrive leaves no residue.
    """
    debt, paid = (minor_units.to_micros(minor, invoice.currency) for minor in crediting.issued(invoice))
    debt_before, paid_before = books.lowered(invoice.organization_id, prefix(invoice))
    ending = ":void" if note.state == State.VOID else ""
    books.lower(
        organization=invoice.organization,
        debt_micros=debt - debt_before,
        paid_micros=paid - paid_before,
        reason=note.reason,
        reference=f"{prefix(invoice)}{note.stripe_credit_note_id}{ending}",
        was_misbilled=note.cause == Cause.MISBILLED,
        now=now,
    )
