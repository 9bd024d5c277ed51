"""Our own state of Stripe's invoices: what they came to, and how far they are. It moves only forward (I17)."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q, QuerySet

from accounts.models import Organization
from billing_portal.billing import crediting, cycles, debts, interims, minor_units, overdue, seats
from billing_portal.billing.models import Customer, Invoice
from billing_portal.ledger import collections, reversals, totals, write_offs

log = structlog.get_logger(__name__)

State = Invoice.State
PAYABLE = frozenset({State.OPEN, State.UNCOLLECTIBLE})


class CustomerUnknown(Exception):
    """An invoice of a Stripe customer that belongs to no organization of ours."""

    def __init__(self, stripe_customer_id: str) -> None:
        super().__init__(f"No organization has the Stripe customer {stripe_customer_id}.")
        self.stripe_customer_id = stripe_customer_id


def receive(stripe_invoice: Any, *, now: datetime) -> Invoice:
    """Take over one invoice as Stripe tells it, in any order and any number of times; return ours.

    A report older than what is known changes nothing. Once finalized, the amounts stand and only payment fields follow
    (I12). When it becomes paid the ledger collects, once. Raises CustomerUnknown.
    """
    data = _as_dict(stripe_invoice)
    customer = Customer.objects.filter(stripe_customer_id=data["customer"]).select_related("organization").first()
    if customer is None:
        raise CustomerUnknown(data["customer"])
    with transaction.atomic():
        Invoice.objects.get_or_create(stripe_invoice_id=data["id"], defaults=_first_facts(customer, data))
        invoice = (
            Invoice.objects.select_for_update(of=("self",))
            .select_related("organization")
            .get(stripe_invoice_id=data["id"])
        )
        before, after = State(invoice.state), State(data["status"])
        if not can_become(before, after):
            return invoice
        if before == State.DRAFT:
            _copy_amounts(invoice, data)
        _copy_payment(invoice, data)
        invoice.state = after
        invoice.save()
        if before != after:
            _follow(invoice, now=now)
        if after in PAYABLE and data.get("attempt_count") and usage_month(invoice) is not None:
            overdue.note(invoice, attempts=data["attempt_count"], now=now)
    if before != after:
        log.info("invoice moved", invoice_id=invoice.pk, organization_id=invoice.organization_id, state=str(after))
    return invoice


def discard(invoice: Invoice, *, now: datetime) -> None:
    """Note that a draft was deleted at Stripe, by us."""
    with transaction.atomic():
        draft = Invoice.objects.select_for_update(of=("self",)).filter(pk=invoice.pk, state=State.DRAFT).first()
        if draft is not None:
            draft.state = State.VOID
            draft.save(update_fields=["state"])
            _follow(draft, now=now)
            log.info("invoice discarded", invoice_id=draft.pk, organization_id=draft.organization_id)


def was_discarded(stripe_invoice_id: str) -> bool:
    """Say whether a draft that is gone at Stripe was deleted by us."""
    return Invoice.objects.filter(stripe_invoice_id=stripe_invoice_id, state=State.VOID).exists()


def can_become(before: State, after: State) -> bool:
    """Say whether an invoice may go from one state to another: forward, or stay; paid and void are both the end."""
    return before == after or Invoice.RANKS[before] < Invoice.RANKS[after]


def collect_reference(invoice: Invoice) -> str:
    """Return the ledger's reference for the payment of an invoice."""
    return f"invoice:{invoice.stripe_invoice_id}"


def month_of(data: Mapping[str, Any], customer: Customer) -> date | None:
    """Return the month of usage that a Stripe invoice bills: only those drafted at the end of a cycle have one.

    The cycles of another subscription, as that of seats, bill no usage.
    """
    if data.get("billing_reason") != "subscription_cycle":
        return None
    subscription_id = seats.subscription_of(data)
    if subscription_id and customer.stripe_subscription_id not in {None, subscription_id}:
        return None
    return cycles.month_ending_at(datetime.fromtimestamp(data["period_end"], UTC))


def _as_dict(stripe_invoice: Any) -> dict[str, Any]:
    return stripe_invoice if isinstance(stripe_invoice, dict) else stripe_invoice.to_dict()


def _first_facts(customer: Customer, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "organization": customer.organization,
        "month": month_of(data, customer),
        "currency": data["currency"].upper(),
        "drafted_at": datetime.fromtimestamp(data["created"], UTC),
    }


def _copy_amounts(invoice: Invoice, data: Mapping[str, Any]) -> None:
    """Copy what stands once the invoice is finalized."""
    transitions = data.get("status_transitions") or {}
    invoice.number = data.get("number") or ""
    invoice.subtotal_minor = data["subtotal"]
    invoice.tax_minor = sum(tax["amount"] for tax in data.get("total_taxes") or [])
    invoice.total_minor = data["total"]
    invoice.starting_balance_minor = data.get("starting_balance") or 0
    invoice.finalized_at = _instant(transitions.get("finalized_at"))


def _copy_payment(invoice: Invoice, data: Mapping[str, Any]) -> None:
    """Copy what follows payments, retries and credit notes."""
    transitions = data.get("status_transitions") or {}
    invoice.amount_due_minor = data["amount_due"]
    invoice.amount_paid_minor = max(data["amount_paid"], invoice.amount_paid_minor)
    invoice.pre_credited_minor = data.get("pre_payment_credit_notes_amount") or 0
    given_back = data.get("post_payment_credit_notes_amount") or 0
    invoice.post_credited_minor = max(given_back, invoice.post_credited_minor)
    invoice.ending_balance_minor = data.get("ending_balance")
    invoice.hosted_invoice_url = data.get("hosted_invoice_url") or ""
    invoice.invoice_pdf_url = data.get("invoice_pdf") or ""
    invoice.next_payment_attempt_at = _instant(data.get("next_payment_attempt"))
    invoice.paid_at = invoice.paid_at or _instant(transitions.get("paid_at"))


def _instant(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def accrued_micros(invoice: Invoice) -> int:
    """Return the micros of what is owed that an invoice bills, by the ledger; none for what is no usage.

    An interim invoice bills what its lines say, a month's own invoice what no interim invoice of the month bills, and
    what went back of earlier payments.
    """
    interim = interims.of_invoice(invoice)
    if interim is not None:
        return interims.micros(interim)
    if invoice.month is None:
        return 0
    accrued = totals.month(invoice.organization_id, invoice.month).accrued_micros
    billed = interims.billed(invoice.organization_id, invoice.month).micros.total()
    return accrued - billed + debts.micros(invoice)


def usage_month(invoice: Invoice) -> date | None:
    """Return the month whose usage an invoice bills, in whole or so far; None for one that bills none."""
    interim = interims.of_invoice(invoice)
    return interim.month if interim is not None else invoice.month


def unpaid(organization: Organization) -> QuerySet[Invoice]:
    """Return the organization's invoices of usage that are finalized and not paid, the oldest first."""
    of_usage = Q(month__isnull=False) | Q(interim__isnull=False)
    return Invoice.objects.filter(of_usage, organization=organization, state__in=PAYABLE).order_by("drafted_at", "id")


def _follow(invoice: Invoice, *, now: datetime) -> None:
    """Let the books follow an invoice that moved: what it bills has come in, or is to be billed by another."""
    if invoice.state == State.PAID:
        _collect(invoice, now=now)
    if invoice.state in {State.PAID, State.VOID}:
        overdue.end(invoice, now=now)
    interim = interims.of_invoice(invoice)
    if interim is not None:
        interims.follow(interim, invoice.state, now=now)


def _undo_write_off(invoice: Invoice, *, now: datetime) -> None:
    """Take back that the invoice was given up: it is paid after all."""
    for write_off in write_offs.given_up(invoice.organization_id, collect_reference(invoice)):
        reversals.reverse(
            organization=invoice.organization,
            transaction_id=write_off.transaction_id,
            reason="The invoice was paid after all",
            reference=f"paid_after_all:{write_off.pk}",
            now=now,
        )


def _collect(invoice: Invoice, *, now: datetime) -> None:
    """Tell the ledger that the usage it bills has come in; tax is not ours and not in its books.

    A total that Stripe moved to the customer balance counts as come in: the next invoice collects it. What credit notes
    took off before is not collected, nor what Stripe billed beyond what had accrued.
    """
    month = usage_month(invoice)
    if month is None:
        return
    debt, misbilled = crediting.before_payment(invoice)
    billed_micros = accrued_micros(invoice) - minor_units.to_micros(debt, invoice.currency)
    net = invoice.total_minor - invoice.tax_minor - debt - misbilled
    paid_micros = minor_units.to_micros(net, invoice.currency)
    if billed_micros or paid_micros:
        _undo_write_off(invoice, now=now)
        collections.collect(
            organization=invoice.organization,
            accrued_micros=billed_micros,
            paid_micros=paid_micros,
            reference=collect_reference(invoice),
            now=now,
        )
