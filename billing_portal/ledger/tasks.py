"""Glue between the broker and settlement: ids in, one verb, safe twice.

A lost task does no harm: `settle_waiting` finds in PostgreSQL what still waits.
"""

from collections.abc import Callable
from datetime import datetime

import structlog
from celery import shared_task
from django.db.models import QuerySet

from accounts import clock, queueing
from billing_portal.ledger import alerts, buckets, checks, credits, reservations, settling
from billing_portal.ledger.models import Account, Bucket, Grant
from billing_portal.ledger.signals import usage_settled

log = structlog.get_logger(__name__)

_DEBOUNCE_SECONDS = 30
_ALL = "ledger.settle"
_CHECKS = 500
_SHARE = 100  # organizations settled together, whose locks are held as long


@shared_task
def settle_organization(organization_id: int) -> None:
    """Settle what waits in one organization."""
    queueing.release(_debounce_key(organization_id))
    if _unfrozen().filter(organization_id=organization_id).exists():
        _settle(organization_id, now=clock.now())


@shared_task
def settle_waiting() -> None:
    """Settle every organization in which something waits."""
    queueing.release(_ALL)
    with_books = set(_unfrozen().values_list("organization_id", flat=True))
    waiting = settling.organizations(limit=1000) & with_books
    with_outcomes = settling.with_outcomes(limit=1000)
    first, *others = _shares(sorted(waiting - with_outcomes)) or [[]]
    for share in others:
        if not queueing.send(settle_share, share):
            _settle_share(share)
    _settle_share(first)
    for organization_id in sorted(waiting & with_outcomes):
        _apart(organization_id, lambda each: _settle(each, now=clock.now()))


@shared_task
def settle_share(organization_ids: list[int]) -> None:
    """Settle the calls of some organizations together."""
    _settle_share(organization_ids)


@shared_task
def expire_credit() -> None:
    """Turn what is left of expired grants into breakage."""
    now = clock.now()
    expired = Grant.objects.filter(remaining_micros__gt=0, expires_at__lte=now)
    expired = expired.filter(organization__account__frozen_at=None)
    for organization_id in expired.order_by("organization_id").values_list("organization_id", flat=True).distinct():
        _apart(organization_id, lambda each: credits.expire(each, now=now))


@shared_task
def expire_buckets() -> None:
    """Take out what is left of buckets whose term is over, after what was decided within it is settled."""
    now = clock.now()
    over = Bucket.objects.filter(remaining_units__gt=0, expires_at__lte=now, organization__account__frozen_at=None)
    for organization_id in over.order_by("organization_id").values_list("organization_id", flat=True).distinct():
        _apart(organization_id, lambda each: _expire_buckets(each, now=now))


def _expire_buckets(organization_id: int, *, now: datetime) -> None:
    settling.settle_all(organization_id, now=now)
    buckets.expire(organization_id, now=now)


@shared_task
def sweep_alerts() -> None:
    """Check the alerts of organizations whose spend changed unseen."""
    for organization_id in alerts.due(limit=_CHECKS):
        alerts.check(organization_id, now=clock.now())


@shared_task
def sweep_reservations() -> None:
    """Use the reservations whose calls are recorded, then end those whose time is over."""
    frozen = set(Account.objects.filter(frozen_at__isnull=False).values_list("organization_id", flat=True))
    for organization_id in reservations.organizations_awaiting_calls():
        if organization_id not in frozen:
            _apart(organization_id, lambda each: reservations.use_recorded(each, now=clock.now()))
    reservations.expire()


@shared_task
def forget_reservations() -> None:
    """Delete reservations that ended long ago."""
    reservations.forget()


@shared_task
def check_books() -> None:
    """Prove the books that were not proved since yesterday, so many at a time."""
    now = clock.now()
    for organization_id in checks.due(now=now, limit=_CHECKS):
        queueing.send(check_books_of, organization_id)


@shared_task
def check_books_of(organization_id: int) -> None:
    """Prove the books of one organization, and freeze its account if they do not hold."""
    checks.check(organization_id, now=clock.now())


def ask_to_settle(organization_id: int) -> None:
    """Queue a settlement, unless one is queued already: a burst of batches needs only one. Never fails (F20)."""
    if queueing.claim(_debounce_key(organization_id), seconds=_DEBOUNCE_SECONDS):
        queueing.send(settle_organization, organization_id, countdown=1)


def ask_to_settle_all() -> None:
    """Queue a settlement of every organization that waits, unless one is queued already. Never fails (F20)."""
    if queueing.claim(_ALL, seconds=_DEBOUNCE_SECONDS):
        queueing.send(settle_waiting, countdown=1)


def _shares(organization_ids: list[int]) -> list[list[int]]:
    return [organization_ids[start : start + _SHARE] for start in range(0, len(organization_ids), _SHARE)]


def _settle_share(organization_ids: list[int]) -> None:
    """Settle together, and where that fails for all because of one, each by itself (F24)."""
    now = clock.now()
    try:
        settled = list(settling.settle_calls(organization_ids, now=now))
    except Exception:
        log.exception("share not settled together", organizations=len(organization_ids))
        for organization_id in organization_ids:
            _apart(organization_id, lambda each: _settle(each, now=now))
    else:
        for organization_id in settled:
            _apart(organization_id, lambda each: _tell(each, now=now))


def _settle(organization_id: int, *, now: datetime) -> None:
    """Settle what waits in one organization."""
    if settling.settle_all(organization_id, now=now):
        _tell(organization_id, now=now)


def _tell(organization_id: int, *, now: datetime) -> None:
    """Tell those who watch the balance that it moved. A deaf one is logged and keeps nobody from hearing."""
    reservations.use_recorded(organization_id, now=now)
    usage_settled.send_robust(sender=Account, organization_id=organization_id, now=now)


def _apart(organization_id: int, command: Callable[[int], object]) -> None:
    """Do the organization's part of a sweep; one that fails is logged, comes again, and holds up no other (F24)."""
    try:
        command(organization_id)
    except Exception:
        log.exception("sweep failed for one organization", organization_id=organization_id)


def _unfrozen() -> QuerySet[Account]:
    return Account.objects.filter(frozen_at=None)


def _debounce_key(organization_id: int) -> str:
    return f"ledger.settle.{organization_id}"
