"""Invoices whose payment failed, in our books: since when, and from when usage stops.

`invoices` calls `note` and `end` in the transaction in which the invoice moves. A trigger tells the ledger's account
the earliest instant at which usage stops, so an authorization knows it by `now` alone: no sweep has to come first, and
whoever pays may go on with the very next call.
"""

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db.models import F, Min, OuterRef, Q, QuerySet, Subquery

from billing_portal.billing.models import Invoice, Overdue
from billing_portal.ledger.models import Account

log = structlog.get_logger(__name__)

Told = Overdue.Told


def note(invoice: Invoice, *, attempts: int, now: datetime) -> None:
    """Note that a payment failed; a further failure is counted, and moves no deadline. Safe to repeat, in any order."""
    overdue, is_new = Overdue.objects.get_or_create(
        invoice=invoice,
        defaults={
            "organization_id": invoice.organization_id,
            "failed_at": now,
            "stops_at": now + settings.PAYMENT_GRACE,
            "attempts": attempts,
        },
    )
    if is_new:
        log.info("invoice overdue", invoice_id=invoice.pk, organization_id=invoice.organization_id)
    elif overdue.attempts < attempts:
        Overdue.objects.filter(pk=overdue.pk, ended_at=None).update(attempts=attempts)


def end(invoice: Invoice, *, now: datetime) -> None:
    """End it with the invoice that was paid or voided: usage goes on at once."""
    if Overdue.objects.filter(invoice=invoice, ended_at=None).update(ended_at=now, asks_owner=False):
        log.info("invoice no longer overdue", invoice_id=invoice.pk, organization_id=invoice.organization_id)


def give_time(invoice: Invoice, *, until: datetime) -> None:
    """Let usage stop later, or earlier; what was announced for the former day is announced again for the new one."""
    moved = Overdue.objects.filter(invoice=invoice, ended_at=None)
    moved.filter(told__gt=Told.FAILED_AGAIN).update(told=Told.FAILED_AGAIN)
    moved.update(stops_at=until)
    log.info("usage stops later", invoice_id=invoice.pk, organization_id=invoice.organization_id)


def is_open(invoice: Invoice) -> bool:
    """Say whether a payment of the invoice failed, and nothing came in since."""
    return Overdue.objects.filter(invoice=invoice, ended_at=None).exists()


def to_tell(overdue: Overdue, *, now: datetime) -> Overdue.Told:
    """Return the newest of what there is to tell by now; told already, if that is not more than `overdue.told`. Pure.

    Whoever sweeps late tells how things are, not what they went through.
    """
    if overdue.ended_at is not None:
        return Told.ENDED
    if now >= overdue.stops_at:
        return Told.STOPPED
    if now >= overdue.stops_at - settings.PAYMENT_GRACE_ANNOUNCED:
        return Told.STOPS_SOON
    return Told.FAILED_AGAIN if overdue.attempts > 1 else Told.FAILED


def waiting(*, now: datetime) -> QuerySet[Overdue]:
    """Return those of which something is to be looked up at Stripe or told."""
    soon = now + settings.PAYMENT_GRACE_ANNOUNCED + timedelta(microseconds=1)
    is_open = Q(ended_at=None)
    news = (
        Q(attempts_read__lt=F("attempts"), ended_at=None)
        | Q(told=Told.NOTHING)
        | (is_open & Q(told=Told.FAILED, attempts__gt=1))
        | (is_open & Q(told__lt=Told.STOPS_SOON, stops_at__lte=soon))
        | (is_open & Q(told__lt=Told.STOPPED, stops_at__lte=now))
        | Q(ended_at__isnull=False)
    )
    return Overdue.objects.filter(news, told__lt=Told.ENDED).select_related("invoice__organization").order_by("id")


def misstated() -> QuerySet[Account]:
    """Return the accounts that are wrong about when usage stops."""
    still_open = Overdue.objects.filter(organization=OuterRef("organization"), ended_at=None)
    first = still_open.order_by().values("organization").annotate(at=Min("stops_at")).values("at")
    differs = Q(unpaid_stops_at__lt=F("stops_at")) | Q(unpaid_stops_at__gt=F("stops_at"))
    is_missing = Q(unpaid_stops_at=None, stops_at__isnull=False) | Q(unpaid_stops_at__isnull=False, stops_at=None)
    return Account.objects.annotate(stops_at=Subquery(first)).filter(differs | is_missing)


def mend() -> int:
    """Put right what is misstated and return how many accounts that were; more than none is a fault of ours."""
    mended = 0
    for account in misstated().order_by("organization_id"):
        still_open = Overdue.objects.filter(organization=account.organization_id, ended_at=None)
        stops_at = still_open.aggregate(first=Min("stops_at"))["first"]
        Account.objects.filter(pk=account.pk).update(unpaid_stops_at=stops_at)
        log.error("account was wrong about its unpaid invoices", organization_id=account.organization_id)
        mended += 1
    return mended
