"""Credit grants: giving them, and what is left of them at their expiry."""

from datetime import datetime, timedelta, tzinfo

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet

from accounts.models import Organization
from billing_portal.ledger import accounts, journal
from billing_portal.ledger.models import Account, Grant, Transaction
from usage import periods

log = structlog.get_logger(__name__)


class AmountNotPositive(ValueError):
    """A grant must give at least one micro."""


def grant(
    *,
    organization: Organization,
    kind: Grant.Kind,
    micros: int,
    reference: str,
    now: datetime,
    expires_at: datetime | None = None,
    reason: str = "",
) -> Grant:
    """Give the organization `micros` of its currency, once per `reference`.

    Raises AmountNotPositive, AccountMissing, or ReferenceReused if the reference names another grant.
    """
    if micros <= 0:
        raise AmountNotPositive(micros)
    with transaction.atomic():
        account = accounts.lock(organization.pk)
        known = Grant.objects.filter(organization=organization, reference=reference).first()
        if known is not None:
            _assert_same(known, kind=kind, micros=micros)
            return known
        given = Grant.objects.create(
            organization=organization,
            kind=kind,
            priority=Grant.PRIORITIES[kind],
            currency=account.currency,
            amount_micros=micros,
            remaining_micros=micros,
            reference=reference,
            reason=reason,
            expires_at=expires_at,
            created_at=now,
        )
        sides = [journal.Side(journal.Book.ISSUED, -micros), journal.Side(journal.Book.CREDIT, micros, given)]
        journal.post(account, kind=Transaction.Kind.GRANT, reference=f"grant:{reference}", sides=sides, now=now)
    log.info("credit granted", organization_id=organization.pk, grant_id=given.pk, kind=str(kind), micros=micros)
    return given


def grant_welcome(*, organization: Organization, now: datetime) -> Grant | None:
    """Give the welcome credit of the organization's currency; None where the settings name no amount."""
    micros = settings.WELCOME_CREDIT_MICROS.get(organization.currency)
    if not micros:
        return None
    lasts = settings.WELCOME_CREDIT_EXPIRES_AFTER
    return grant(
        organization=organization,
        kind=Grant.Kind.WELCOME,
        micros=micros,
        reference=f"welcome:{organization.pk}",
        now=now,
        expires_at=now + lasts if lasts else None,
        reason="Welcome",
    )


def spendable(*accounts: Account, now: datetime) -> QuerySet[Grant]:
    """Return each account's grants with something left at `now`, in burn order: priority, expiry, creation, id."""
    alive = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    of_accounts = [account.organization_id for account in accounts]
    grants = Grant.objects.filter(alive, organization_id__in=of_accounts, remaining_micros__gt=0)
    return grants.order_by("organization_id", "priority", F("expires_at").asc(nulls_last=True), "created_at", "id")


def days_left(grant: Grant, *, zone: tzinfo, now: datetime) -> int | None:
    """Return how many days after today the grant can still be spent; 0 on its last, None if it never expires."""
    if grant.expires_at is None:
        return None
    last_day = periods.day_of(grant.expires_at - timedelta(microseconds=1), zone)
    return (last_day - periods.day_of(now, zone)).days


def expire(organization_id: int, *, now: datetime) -> int:
    """Turn what is left of grants past their expiry into breakage; return how many grants that were."""
    with transaction.atomic():
        account = accounts.lock(organization_id)
        expired = list(
            Grant.objects.filter(organization_id=organization_id, remaining_micros__gt=0, expires_at__lte=now).order_by(
                "id"
            )
        )
        for each in expired:
            left = each.remaining_micros
            sides = [
                journal.Side(journal.Book.CREDIT, -left, each),
                journal.Side(journal.Book.BREAKAGE, left),
            ]
            journal.post(account, kind=Transaction.Kind.EXPIRE, reference=f"expire:{each.pk}", sides=sides, now=now)
            Grant.objects.filter(pk=each.pk).update(remaining_micros=0)
            log.info("credit expired", organization_id=organization_id, grant_id=each.pk, micros=left)
    return len(expired)


def _assert_same(known: Grant, *, kind: Grant.Kind, micros: int) -> None:
    if (known.kind, known.amount_micros) != (kind, micros):
        raise journal.ReferenceReused(known.reference, (known.kind, known.amount_micros), (str(kind), micros))
