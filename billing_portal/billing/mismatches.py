"""The reconciliation as a job without an end: invoices are compared again and again, safe cures tried, the rest queued.

Every difference is a row with its cause, its amount and its owner. What can be put right without a judgment is tried
first: asking Stripe again, storing lines, sending reports, rebuilding what is derived. What is still there afterwards
is for a person.
"""

from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import F, Q, QuerySet

from accounts.models import Organization, User
from billing_portal.billing import (
    credit_notes,
    gateway,
    invoice_lines,
    invoices,
    locks,
    metering,
    minor_units,
    month_end,
    purchase_payment,
    reconciliation,
)
from billing_portal.billing.call_audit import Difference
from billing_portal.billing.models import Invoice, InvoiceCheck, Mismatch, Purchase
from billing_portal.ledger import rollup_rebuilds

log = structlog.get_logger(__name__)

Cause, Owner, State = Mismatch.Cause, Mismatch.Owner, Mismatch.State
# An invoice is compared whenever it has moved, and anyhow so often; each of its calls is rated anew once a day.
AGAIN_AFTER = timedelta(hours=1)
DEEP_AFTER = timedelta(hours=24)
# For so long after it was drafted; what is older changes only by an event, which moves it.
WATCHED = timedelta(days=100)
_IN_MINOR_UNITS = {"line amount", "total"}
_CAUSES: dict[str, tuple[Mismatch.Cause, Mismatch.Owner]] = {
    "invoice": (Cause.LATE, Owner.PORTAL),
    "rollups": (Cause.DERIVED, Owner.PORTAL),
    "reports": (Cause.LATE, Owner.PORTAL),
    "reports accepted": (Cause.REJECTED, Owner.PORTAL),
    "Stripe's sums": (Cause.MISCOUNTED, Owner.STAFF),
    "line quantity": (Cause.MISBILLED, Owner.STAFF),
    "line amount": (Cause.MISBILLED, Owner.STAFF),
    "credit": (Cause.MISBILLED, Owner.STAFF),
    "credit notes": (Cause.MISSING_EVENT, Owner.PORTAL),
    "total": (Cause.MISSING_EVENT, Owner.PORTAL),
    "payment": (Cause.MISSING_EVENT, Owner.PORTAL),
    "interim": (Cause.BOOKS, Owner.STAFF),
    "settlements": (Cause.BOOKS, Owner.STAFF),
    "sequence": (Cause.BOOKS, Owner.STAFF),
    "charges": (Cause.MISCHARGED, Owner.STAFF),
    "calls": (Cause.MISCHARGED, Owner.STAFF),
    "outcomes": (Cause.MISCHARGED, Owner.STAFF),
}


def check_due(*, now: datetime, limit: int = 100) -> int:
    """Compare the invoices whose turn it is, and look for months that no invoice bills; return how many differ.

    One process at a time is at it; another returns at once.
    """
    with locks.attempt("mismatches") as held:
        if not held:
            return 0
        differing = sum(_check_safely(invoice, now=now) for invoice in due(now=now)[:limit])
        return differing + _check_unbilled(now=now)


def due(*, now: datetime) -> QuerySet[Invoice]:
    """Return the finalized invoices to compare now: those that moved, then those compared longest ago."""
    final = Invoice.objects.exclude(state__in=[Invoice.State.DRAFT, Invoice.State.VOID])
    moved = Q(check_made=None) | ~Q(check_made__state=F("state")) | Q(check_made__differences__gt=0)
    is_old = Q(check_made__checked_at__lt=now - AGAIN_AFTER, drafted_at__gt=now - WATCHED)
    return final.filter(moved | is_old).order_by(F("check_made__checked_at").asc(nulls_first=True), "id")


def check(invoice: Invoice, *, now: datetime) -> list[Mismatch]:
    """Compare one invoice, try the safe cures of what differs, and return the mismatches that stay open."""
    last = InvoiceCheck.objects.filter(invoice=invoice).first()
    deep = last is None or last.deep_at is None or last.deep_at <= now - DEEP_AFTER
    found = reconciliation.reconcile_invoice(invoice, deep=deep).differences
    if found and cure(invoice, found, now=now):
        invoice.refresh_from_db()
        found = reconciliation.reconcile_invoice(invoice, deep=deep).differences
    still = note(invoice.organization, found, invoice=invoice, currency=invoice.currency, now=now, is_whole=deep)
    InvoiceCheck.objects.update_or_create(
        invoice=invoice,
        defaults={
            "organization": invoice.organization,
            "state": invoice.state,
            "differences": len(still),
            "checked_at": now,
            "deep_at": now if deep or last is None else last.deep_at,
        },
    )
    return still


def cure(invoice: Invoice, differences: Iterable[Difference], *, now: datetime) -> bool:
    """Try what is safe for each level that differs; return whether anything was tried.

    No cure decides anything: each brings our rows to what Stripe, or our own facts, already say.
    """
    cures = [_CURES[level] for level in sorted({each.level for each in differences}) if level in _CURES]
    for each in dict.fromkeys(cures):
        try:
            each(invoice, now)
        except (gateway.Failed, credit_notes.InvoiceUnknown):
            log.warning("cure failed", invoice_id=invoice.pk, organization_id=invoice.organization_id, exc_info=True)
    return bool(cures)


def note(
    organization: Organization,
    differences: Iterable[Difference],
    *,
    currency: str,
    now: datetime,
    invoice: Invoice | None = None,
    month: date | None = None,
    is_whole: bool = True,
) -> list[Mismatch]:
    """Keep what was found; what was open and is not found any more has healed. Return what is open.

    A quick comparison (`is_whole` false) sees less than a deep one, so it heals nothing that it could not have seen.
    """
    of_subject = Mismatch.objects.filter(organization=organization, invoice=invoice, month=month)
    found = {(each.level, each.subject[:300]): each for each in differences}
    with transaction.atomic():
        known = {(each.level, each.subject): each for each in of_subject.exclude(state=State.HEALED)}
        for key, difference in found.items():
            fields = _fields(difference, currency)
            if key in known:
                _see_again(known[key], fields, now=now)
                continue
            Mismatch.objects.create(
                organization=organization,
                invoice=invoice,
                month=month,
                level=key[0],
                subject=key[1],
                currency=currency,
                found_at=now,
                seen_at=now,
                **fields,
            )
        gone = [each.pk for key, each in known.items() if key not in found and (is_whole or key[0] in _SEEN_QUICKLY)]
        of_subject.filter(pk__in=gone).update(state=State.HEALED, ended_at=now)
    opened = len(found.keys() - known.keys())
    if opened or gone:
        log.warning("mismatches", organization_id=organization.pk, opened=opened, healed=len(gone))
    return list(of_subject.filter(state=State.OPEN).order_by("id"))


def _see_again(mismatch: Mismatch, fields: dict[str, object], *, now: datetime) -> None:
    """Keep one that is still there; an explained one that has become another amount is open again."""
    rows = Mismatch.objects.filter(pk=mismatch.pk)
    if mismatch.state == State.EXPLAINED and mismatch.amount_micros != fields["amount_micros"]:
        rows.update(state=State.OPEN, ended_at=None, explained_by=None)
    rows.update(**fields, seen_at=now)


def explain(mismatch: Mismatch, *, by: User, now: datetime) -> None:
    """Note that a person knows why it is so and that nothing is to be done; it is not asked about again."""
    still_open = Mismatch.objects.filter(pk=mismatch.pk, state=State.OPEN)
    still_open.update(state=State.EXPLAINED, explained_by=by, ended_at=now)
    mismatch.refresh_from_db()


def queue() -> QuerySet[Mismatch]:
    """Return what waits for staff, the newest first."""
    return Mismatch.objects.filter(state=State.OPEN).select_related("organization", "invoice").order_by("-id")


def _fields(difference: Difference, currency: str) -> dict[str, object]:
    cause, owner = _CAUSES.get(difference.level, (Cause.BOOKS, Owner.STAFF))
    apart = None if difference.ours is None or difference.theirs is None else difference.theirs - difference.ours
    if apart is not None and difference.level in _IN_MINOR_UNITS:
        apart = minor_units.to_micros(apart, currency)
    return {"cause": cause, "owner": owner, "text": str(difference)[:400], "amount_micros": apart}


def _check_safely(invoice: Invoice, *, now: datetime) -> bool:
    try:
        return bool(check(invoice, now=now))
    except Exception:
        log.exception("invoice cannot be compared", invoice_id=invoice.pk, organization_id=invoice.organization_id)
        return False


def _check_unbilled(*, now: datetime) -> int:
    """Note the settled months that no invoice bills; `month_end` asks Stripe for those by itself."""
    found: dict[tuple[int, date], int] = {}
    for organization_id, month, micros in reconciliation.unbilled(now=now):
        found[organization_id, month] = micros
    open_ones = Mismatch.objects.filter(invoice=None, state=State.OPEN, month__isnull=False)
    keys = found.keys() | {(each.organization_id, each.month) for each in open_ones if each.month}
    organizations = Organization.objects.in_bulk([organization_id for organization_id, _ in keys])
    for organization_id, month in sorted(keys):
        organization, micros = organizations[organization_id], found.get((organization_id, month), 0)
        subject = f"{organization.reference} {month:%Y-%m}"
        differences = [Difference("invoice", subject, micros, 0, "No invoice bills this month.")] if micros else []
        note(organization, differences, currency=organization.currency, month=month, now=now)
    return len(found)


# ── Cures ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ask_stripe(invoice: Invoice, now: datetime) -> None:
    """Take the invoice, its lines and its credit notes over as they are at Stripe."""
    invoices.receive(gateway.retrieve("invoices", invoice.stripe_invoice_id), now=now)
    invoice_lines.store(invoice)
    for each in gateway.list_all("credit_notes", {"invoice": invoice.stripe_invoice_id}):
        credit_notes.receive(each, now=now)
    purchase = Purchase.objects.filter(invoice=invoice).select_related("organization").first()
    if purchase is not None:
        purchase_payment.advance(purchase, now=now)


def _walk_on(invoice: Invoice, now: datetime) -> None:
    """Do what the month's walk left undone: a credit note for what Stripe billed too much."""
    if invoice.month is not None and invoice.credited_at is None:
        month_end.advance(invoice, now=now)


def _send_reports(invoice: Invoice, now: datetime) -> None:
    metering.write_reports(invoice.organization_id, now=now)
    metering.send_reports(organization_id=invoice.organization_id, now=now)


def _rebuild(invoice: Invoice, now: datetime) -> None:
    rollup_rebuilds.rebuild([invoice.organization_id])


_Cure = Callable[[Invoice, datetime], None]
_CURES: dict[str, _Cure] = {
    "credit notes": _ask_stripe,
    "payment": _ask_stripe,
    "total": _ask_stripe,
    "line amount": _walk_on,
    "credit": _walk_on,
    "reports": _send_reports,
    "reports accepted": _send_reports,
    "rollups": _rebuild,
}
_SEEN_QUICKLY = set(_CAUSES) - {"Stripe's sums", "settlements", "charges", "calls", "outcomes"}
