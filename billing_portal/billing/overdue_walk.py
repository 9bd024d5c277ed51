"""What follows a failed payment: the attempts are looked up at Stripe, and each step is told, once.

Which step is due follows from `now` and the books alone, so the sweep may come late, twice or from two workers.
"""

from datetime import datetime

import structlog
from django.db import transaction

from accounts import letters
from billing_portal.billing import attempts, gateway, interims, overdue
from billing_portal.billing.models import Invoice, Overdue, PaymentAttempt
from billing_portal.ledger import authorization, standing

log = structlog.get_logger(__name__)

Told = Overdue.Told
_TEMPLATES = {
    Told.FAILED: "payment_failed",
    Told.FAILED_AGAIN: "payment_failed_again",
    Told.STOPS_SOON: "payment_stops_usage",
    Told.STOPPED: "payment_stopped_usage",
    Told.ENDED: "payment_settled",
}


def advance_waiting(*, now: datetime, limit: int = 200) -> int:
    """Advance all of which something is to be looked up or told; return how many letters were written.

    One that fails is logged and keeps no other from going on (F24).
    """
    return sum(_advance_safely(each, now=now) for each in overdue.waiting(now=now)[:limit])


def advance(found: Overdue, *, now: datetime) -> int:
    """Look up the attempts that are new, and tell what is due; return how many letters were written.

    While Stripe is away nothing is told of a decline that is not known yet, but what stops is told in time.
    """
    try:
        _read(found)
    except (gateway.Unavailable, gateway.RateLimited):
        log.warning("attempts not read", overdue_id=found.pk, organization_id=found.organization_id)
        if overdue.to_tell(found, now=now) < Told.STOPS_SOON:
            return 0
    return _tell(found, now=now)


def last_decline(invoice: Invoice) -> PaymentAttempt | None:
    """Return the newest refused charge of an invoice; None before Stripe was asked, or where no card was charged."""
    return PaymentAttempt.objects.filter(invoice=invoice, state=PaymentAttempt.State.FAILED).first()


def look_up(invoice: Invoice) -> None:
    """Look up an invoice's attempts at Stripe just now, for a person who waits. Raises what the gateway raises."""
    asks_owner = attempts.read(invoice)
    Overdue.objects.filter(invoice=invoice, ended_at=None).update(asks_owner=asks_owner)


def _advance_safely(found: Overdue, *, now: datetime) -> int:
    try:
        return advance(found, now=now)
    except Exception:
        log.exception("overdue invoice cannot advance", overdue_id=found.pk, organization_id=found.organization_id)
        return 0


def _read(found: Overdue) -> None:
    if found.ended_at is not None or found.attempts_read >= found.attempts:
        return
    known = found.attempts
    asks_owner = attempts.read(found.invoice)
    still_open = Overdue.objects.filter(pk=found.pk, ended_at=None)
    still_open.update(attempts_read=known, asks_owner=asks_owner)
    found.refresh_from_db(fields=["attempts_read", "asks_owner", "ended_at"])


def _tell(found: Overdue, *, now: datetime) -> int:
    """Write the letter of the newest step, if it was not: under the row's lock, with the note that it is written."""
    with transaction.atomic():
        locked = Overdue.objects.select_for_update(of=("self",)).select_related("invoice__organization")
        current = locked.get(pk=found.pk)
        step = overdue.to_tell(current, now=now)
        if step <= current.told:
            return 0
        Overdue.objects.filter(pk=current.pk).update(told=step)
        is_paid = current.invoice.state == Invoice.State.PAID
        if step == Told.ENDED and not (is_paid and current.told):
            return 0  # nobody was told of it, or nothing was paid: there is nothing to take back
        return _write(current, step, now=now)


def _write(found: Overdue, step: Overdue.Told, *, now: datetime) -> int:
    invoice = found.invoice
    organization = invoice.organization
    attempt = last_decline(invoice)
    stands = standing.of(organization.pk, now=now)
    return letters.write(
        template=f"emails/{_TEMPLATES[step]}",
        reference=f"overdue:{found.pk}:{step.name.lower()}:{found.stops_at:%Y%m%d}",
        to=letters.billing_addresses(organization),
        organization=organization,
        invoice=invoice,
        interim=interims.of_invoice(invoice),
        overdue=found,
        attempt=attempt,
        decline=attempts.decline_of(attempt) if attempt else None,
        was_stopped=found.ended_at is not None and found.stops_at <= found.ended_at,
        is_overdue=stands.is_overdue,
        owes_too_much=authorization.owes_too_much(stands),
        owed_micros=stands.accrued_micros,
        limit_micros=stands.arrears_limit_micros,
        now=now,
    )
