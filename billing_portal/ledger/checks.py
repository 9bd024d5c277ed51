"""The nightly proof: every organization's books are derived anew, and where they differ its account is frozen.

One organization at a time and so many a run, the longest unproved first: a run that is lost or too short is made good
by the next.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from accounts import letters
from accounts.models import Organization
from billing_portal.ledger import accounts, verification
from billing_portal.ledger.models import Account, Check, Finding
from billing_portal.ledger.verification import Discrepancy

log = structlog.get_logger(__name__)

EVERY = timedelta(hours=20)
# Older months are proved by `manage.py verify_ledger`: their calls no longer change, and would be read every night.
_MONTHS_BACK = timedelta(days=45)


def due(*, now: datetime, limit: int) -> list[int]:
    """Return the organizations whose books were not proved since yesterday, the longest unproved first."""
    recently = Q(organization__ledger_check__checked_at__gt=now - EVERY)
    unproved = Account.objects.exclude(recently)
    oldest_first = unproved.order_by(F("organization__ledger_check__checked_at").asc(nulls_first=True), "id")
    return list(oldest_first.values_list("organization_id", flat=True)[:limit])


def check(organization_id: int, *, now: datetime) -> list[Finding]:
    """Prove one organization's books; return what differs now and did not when staff last accepted it.

    Anything new freezes the account, is kept as a finding and written to staff. What an earlier check found and this
    one does not is resolved.
    """
    since = (now - _MONTHS_BACK).date().replace(day=1)
    discrepancies = list(verification.verify(organization_id, since=since))
    with transaction.atomic():
        if discrepancies:
            # Once more where nothing can move: a freeze must never come of looking at the wrong moment.
            accounts.lock(organization_id, even_frozen=True)
            discrepancies = list(verification.verify(organization_id, since=since))
        findings = [_find(organization_id, each, now) for each in discrepancies]
        _resolve_others(organization_id, findings, now)
        Check.objects.update_or_create(
            organization_id=organization_id, defaults={"checked_at": now, "differences": len(findings)}
        )
        new = [finding for finding in findings if finding.accepted_at is None]
        if new:
            _freeze(organization_id, new, now)
    return new


def accept(organization_id: int, *, now: datetime) -> None:
    """Lift the freeze: what is found by now does not freeze the account again, whatever is new does."""
    with transaction.atomic():
        accounts.unfreeze(organization_id)
        Finding.objects.filter(organization_id=organization_id, resolved_at=None, accepted_at=None).update(
            accepted_at=now
        )


def _find(organization_id: int, discrepancy: Discrepancy, now: datetime) -> Finding:
    finding, is_new = Finding.objects.get_or_create(
        organization_id=organization_id,
        law=discrepancy.law[:120],
        subject=discrepancy.subject[:120],
        expected=discrepancy.expected,
        found=discrepancy.found,
        resolved_at=None,
        defaults={"noticed_at": now},
    )
    if is_new:
        log.error("ledger differs", organization_id=organization_id, law=finding.law, subject=finding.subject)
    return finding


def _resolve_others(organization_id: int, findings: Iterable[Finding], now: datetime) -> None:
    still = [finding.pk for finding in findings]
    gone = Finding.objects.filter(organization_id=organization_id, resolved_at=None).exclude(pk__in=still)
    gone.update(resolved_at=now)


def _freeze(organization_id: int, findings: list[Finding], now: datetime) -> None:
    was_frozen = Account.objects.filter(organization_id=organization_id, frozen_at__isnull=False).exists()
    count = len(findings)
    reason = f"{count} difference{'s' if count > 1 else ''} in the books, the first: {findings[0].law}."
    accounts.freeze(organization_id, reason=reason, now=now)
    if was_frozen:
        return
    organization = Organization.objects.get(pk=organization_id)
    letters.write(
        template="emails/ledger_frozen",
        reference=f"ledger_frozen:{organization_id}:{now:%Y-%m-%dT%H:%M:%S}",
        to=settings.STAFF_NOTICE_EMAILS,
        organization=organization,
        findings=findings[:20],
        count=count,
        now=now,
    )
