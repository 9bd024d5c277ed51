"""Glue between the broker and settlement: ids in, one verb, safe twice.

A lost task does no harm: `settle_waiting` finds in PostgreSQL what still waits.
"""

from datetime import datetime

from celery import shared_task

from accounts import clock, queueing
from billing_portal.ledger import credits, settlement
from billing_portal.ledger.models import Account, Grant
from billing_portal.ledger.signals import usage_settled
from usage import charges

_DEBOUNCE_SECONDS = 30


@shared_task
def settle_organization(organization_id: int) -> None:
    """Settle what waits in one organization."""
    queueing.release(_debounce_key(organization_id))
    _settle(organization_id, now=clock.now())


@shared_task
def settle_waiting() -> None:
    """Settle every organization in which something waits."""
    with_books = Account.objects.values_list("organization_id", flat=True)
    for organization_id in set(charges.organizations_waiting(limit=1000)) & set(with_books):
        _settle(organization_id, now=clock.now())


@shared_task
def expire_credit() -> None:
    """Turn what is left of expired grants into breakage."""
    now = clock.now()
    expired = Grant.objects.filter(remaining_micros__gt=0, expires_at__lte=now)
    for organization_id in expired.order_by("organization_id").values_list("organization_id", flat=True).distinct():
        credits.expire(organization_id, now=now)


def ask_to_settle(organization_id: int) -> None:
    """Queue a settlement, unless one is queued already: a burst of batches needs only one. Never fails (F20)."""
    if queueing.claim(_debounce_key(organization_id), seconds=_DEBOUNCE_SECONDS):
        queueing.send(settle_organization, organization_id, countdown=1)


def _settle(organization_id: int, *, now: datetime) -> None:
    """Settle what waits, and tell those who watch the balance. A deaf one is logged and keeps nobody from hearing."""
    if settlement.settle_all(organization_id, now=now):
        usage_settled.send_robust(sender=Account, organization_id=organization_id, now=now)


def _debounce_key(organization_id: int) -> str:
    return f"ledger.settle.{organization_id}"
