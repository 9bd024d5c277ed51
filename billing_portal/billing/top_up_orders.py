"""Standing orders for automatic top-ups: accepting one, changing it, ending it."""

from datetime import datetime

import structlog
from django.conf import settings
from django.db import transaction

from accounts.models import Organization, User
from billing_portal.billing.models import TopUp
from billing_portal.ledger import accounts

log = structlog.get_logger(__name__)

# A changed text is a new version: what was accepted is kept word for word.
MANDATE_VERSION = "2026-11"
_MANDATE = (
    "I authorize {vendor} to charge the default payment method of {organization} for credit as set here, whenever it "
    "runs low and without asking me again, until I switch this off."
)


def mandate_for(organization_name: str) -> str:
    """Return what a person accepts with a standing order."""
    return _MANDATE.format(vendor=settings.VENDOR_NAME, organization=organization_name)


def in_force(organization: Organization) -> TopUp | None:
    """Return the standing order, or None."""
    return TopUp.objects.filter(organization=organization, ended_at=None).first()


def latest(organization: Organization) -> TopUp | None:
    """Return the order in force, or else the last one that was."""
    return TopUp.objects.filter(organization=organization).order_by("-id").first()


def accept(
    *,
    organization: Organization,
    user: User,
    threshold_micros: int,
    amount_micros: int,
    ceiling_micros: int,
    now: datetime,
) -> TopUp:
    """Put a standing order in force, in place of the one before; the same again changes nothing.

    The amounts have been checked by `top_ups.check_terms`.
    """
    wanted = {"threshold_micros": threshold_micros, "amount_micros": amount_micros, "ceiling_micros": ceiling_micros}
    with transaction.atomic():
        accounts.lock(organization.pk)
        before = in_force(organization)
        if before is not None and wanted == {name: getattr(before, name) for name in wanted}:
            return before
        if before is not None:
            _end(before, reason="Replaced.", user=user, now=now)
        order = TopUp.objects.create(
            organization=organization,
            currency=organization.currency,
            mandate_version=MANDATE_VERSION,
            mandate_text=mandate_for(organization.name),
            accepted_by=user,
            accepted_at=now,
            **wanted,
        )
    log.info("top-up ordered", organization_id=organization.pk, top_up_id=order.pk, user_id=user.pk, **wanted)
    return order


def end(order: TopUp, *, reason: str = "", user: User | None = None, now: datetime) -> bool:
    """End a standing order; False for one that had ended, which stays as it is. Also of a frozen account."""
    with transaction.atomic():
        accounts.lock(order.organization_id, even_frozen=True)
        return _end(order, reason=reason, user=user, now=now)


def _end(order: TopUp, *, reason: str, user: User | None, now: datetime) -> bool:
    in_force = TopUp.objects.filter(pk=order.pk, ended_at=None)
    ends = bool(in_force.update(ended_at=now, ended_by=user, ended_reason=reason[:300]))
    if ends:
        log.info("top-up ended", organization_id=order.organization_id, top_up_id=order.pk, reason=reason)
    return ends
