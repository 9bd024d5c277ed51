"""The walk from a drafted invoice to a paid one that agrees with the usage.

Nothing here trusts that it runs once: every call starts from what Stripe has now and repeats what is not done.
"""

import uuid
from datetime import date, datetime, timedelta

import structlog
from django.core.cache import cache
from django.db.models import Exists, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Concat

from billing_portal.billing import (
    charging,
    credit_lines,
    cycles,
    debts,
    deductions,
    discounts,
    gateway,
    intents,
    interim_walk,
    invoice_lines,
    invoices,
    line_descriptions,
    locks,
    meter_sums,
    metering,
    misbilling,
)
from billing_portal.billing.models import Customer, Intent, Invoice, InvoiceLine
from billing_portal.billing.receipts import sealing
from billing_portal.billing.tax import automatic, records
from billing_portal.ledger import accounts, settling, totals
from usage.models import Billable

log = structlog.get_logger(__name__)

State = Invoice.State
# Stripe drafts within minutes of the period's end, and finalizes an hour later: ask before that if no webhook came.
_WEBHOOK_PATIENCE = timedelta(minutes=10)
_ASK_AGAIN_SECONDS = 300
_ASK_ABOUT_OPEN_SECONDS = 3600


def advance(invoice: Invoice, *, now: datetime) -> bool:
    """Take an invoice as far as it can go now; True when nothing is left for us to do.

    For a month's draft: keep Stripe from finalizing it, settle what waits, close the month, report the rest, wait until
    Stripe's sums equal ours, take credit and interim invoices off, have the tax worked out, finalize, pay. What it
    waits for stands in `waiting_for`. One process at a time walks an invoice; another one returns False at once.
    """
    with locks.attempt(f"invoice:{invoice.pk}") as held:
        if not held:
            return False
        try:
            reason = _advance(invoice, now=now)
        except (gateway.Unavailable, gateway.RateLimited):
            reason = "Stripe cannot be reached."
        except (intents.OutcomeUnknown, accounts.AccountFrozen) as error:
            reason = str(error)
        except gateway.Refused as error:
            log.error(
                "invoice refused", invoice_id=invoice.pk, organization_id=invoice.organization_id, code=error.code
            )
            reason = f"Stripe refused: {error}"
        Invoice.objects.filter(pk=invoice.pk).update(waiting_for=reason[:300])
    return not reason


def advance_waiting(*, now: datetime, limit: int = 200) -> int:
    """Advance every invoice that something is left to do for, after asking Stripe for those we never heard of.

    Returns how many came to an end. An invoice that fails is logged and keeps no other from going on (F24).
    """
    find_missing(now=now, limit=limit)
    return sum(_advance_safely(invoice, now=now) for invoice in [*_waiting()[:limit], *_open(limit)])


def find_missing(*, now: datetime, limit: int = 200) -> int:
    """Ask Stripe for the last month's invoice where no webhook told of it (F4); return how many it had."""
    month = cycles.month_ended_by(now - _WEBHOOK_PATIENCE)
    _, ended_at = cycles.bounds(month)
    customers = Customer.objects.filter(
        deleted_at=None, stripe_subscription_id__isnull=False, subscribed_at__lt=ended_at
    )
    found = 0
    for customer in customers.exclude(organization__invoices__month=month).order_by("id")[:limit]:
        if cache.add(f"billing.missing.{customer.pk}.{month}", 1, timeout=_ASK_AGAIN_SECONDS):
            for stripe_invoice in gateway.list_all("invoices", {"customer": customer.stripe_customer_id}):
                found += invoices.receive(stripe_invoice, now=now).month == month
    return found


def _waiting() -> QuerySet[Invoice]:
    """Return drafts of a month, final ones that lack their lines or what was due, and open ones not charged yet."""
    tried = Intent.objects.filter(reference=Concat(Value("pay:"), OuterRef("stripe_invoice_id")))
    lines = InvoiceLine.objects.filter(invoice=OuterRef("pk"))
    untried = Q(state=State.OPEN, credited_at__isnull=False) & ~Exists(tried.exclude(state=Intent.State.PENDING))
    return (
        Invoice.objects.filter(month__isnull=False)
        .exclude(state=State.VOID)
        .filter(Q(state=State.DRAFT) | Q(credited_at=None) | ~Exists(lines) | untried)
        .order_by("drafted_at", "id")
    )


def _open(limit: int) -> list[Invoice]:
    """Return open invoices that Stripe was not asked about for an hour: their payment's webhook may be lost."""
    still_open = Invoice.objects.filter(state__in=[State.OPEN, State.UNCOLLECTIBLE]).order_by("id")
    return [
        invoice
        for invoice in still_open[:limit]
        if cache.add(f"billing.open.{invoice.pk}", 1, timeout=_ASK_ABOUT_OPEN_SECONDS)
    ]


def _advance_safely(invoice: Invoice, *, now: datetime) -> bool:
    try:
        return advance(invoice, now=now)
    except Exception:
        log.exception("invoice cannot advance", invoice_id=invoice.pk, organization_id=invoice.organization_id)
        return False


def _advance(invoice: Invoice, *, now: datetime) -> str:
    """Walk on from what Stripe has now; return what it waits for, or nothing."""
    stripe_invoice = gateway.retrieve("invoices", invoice.stripe_invoice_id)
    invoice = invoices.receive(stripe_invoice, now=now)
    if invoice.state == State.DRAFT:
        if invoice.month is None:
            return ""
        if stripe_invoice["auto_advance"]:
            _hold(invoice)
        if reason := _prepare(invoice, invoice.month, now=now):
            return reason
        sealing.anchor(invoice, now=now)
        invoice = charging.finalize(invoice, now=now)
    invoice_lines.store(invoice)
    records.store(invoice, now=now)
    if invoice.month is not None and invoice.credited_at is None:
        log.error("finalized without us", invoice_id=invoice.pk, organization_id=invoice.organization_id)
        # Nothing can reach this invoice any more: what is settled from here on belongs to the next one.
        discounts.close_month(invoice.organization_id, invoice.month, now=now)
        if reason := misbilling.put_right(invoice, now=now):
            return reason
        invoice.refresh_from_db()
    if invoice.month is not None:
        sealing.seal(invoice, now=now)
    if invoice.state == State.OPEN and invoice.month is not None:
        charging.charge(invoice, now=now)
    return ""


def _hold(invoice: Invoice) -> None:
    """Keep Stripe from finalizing the draft by its own clock. Repeating it is harmless, so every time has a new key."""
    gateway.update("invoices", invoice.stripe_invoice_id, {"auto_advance": False}, str(uuid.uuid4()))


def _prepare(invoice: Invoice, month: date, *, now: datetime) -> str:
    """Bring the month to its end and the draft to what it must say; return what is missing, or nothing."""
    organization_id = invoice.organization_id
    settling.settle_all(organization_id, now=now)
    discounts.close_month(organization_id, month, now=now)
    metering.write_reports(organization_id, now=now)
    metering.send_reports(organization_id=organization_id, now=now)
    if waiting := metering.unaccepted(organization_id, month).count():
        return f"Stripe has not accepted {waiting} usage report{'s' if waiting > 1 else ''} yet."
    reported = metering.reported(organization_id, month)
    if reported != _gross(organization_id, month):
        return "Settled usage is in no report."
    for component, ours, theirs in meter_sums.differences(organization_id, month, reported):
        return f"Stripe has counted {theirs:,} of {ours:,} micros of {Billable(component).label}."
    if reason := interim_walk.finish(organization_id, month, now=now):
        return reason
    credit_lines.put_on(invoice, now=now)
    deductions.put_on(invoice, now=now)
    debts.put_on(invoice, now=now)
    lines = invoice_lines.fetch(invoice)
    reason = credit_lines.mismatch(invoice, lines) or deductions.mismatch(invoice, lines)
    if reason := reason or debts.mismatch(invoice, lines):
        return reason
    line_descriptions.put_on(invoice, lines)
    return automatic.settle(invoice, now=now)


def _gross(organization_id: int, month: date) -> dict[str, int]:
    gross = totals.month(organization_id, month).gross
    return {component: micros for component, micros in gross.items() if micros}
