"""What staff do to an organization: one person below a limit, two above it, each thing once.

The limit counts what one person did alone for an organization within a day, so that ten small gifts are one large one.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from accounts import letters
from accounts.models import Organization, User
from billing_portal.ledger import accounts
from billing_portal.ledger.models import Account
from billing_portal.support import kinds
from billing_portal.support.kinds import Change, Kind, Refused
from billing_portal.support.kinds.base import account_of
from billing_portal.support.models import StaffAction

log = structlog.get_logger(__name__)

State = StaffAction.State
_DAY = timedelta(days=1)


class FormReused(Exception):
    """The form's key names another action: it was changed after it was sent."""

    def __init__(self, action: StaffAction) -> None:
        super().__init__("This form was sent before with other content. Open it again.")
        self.action = action


class SamePerson(Exception):
    """Whoever asked cannot approve."""

    def __init__(self, action: StaffAction) -> None:
        super().__init__("You asked for this yourself; somebody else has to decide.")
        self.action = action


class AlreadyDecided(Exception):
    """The action does not wait any more."""

    def __init__(self, action: StaffAction) -> None:
        super().__init__(f"This is {action.get_state_display().lower()} already.")
        self.action = action


@dataclass(frozen=True, slots=True)
class Preview:
    """What would happen, and whether a second person has to approve it."""

    changes: list[Change]
    amount_micros: int | None
    needs_approval: bool
    limit_micros: int


def preview(*, kind: Kind, organization: Organization, params: dict[str, Any], by: User, now: datetime) -> Preview:
    """Return what the action would do if it were done now; nothing is changed. Raises Refused."""
    account = account_of(organization)
    amount = kind.amount_micros(account, params, now=now)
    return Preview(
        changes=kind.preview(account, params, now=now),
        amount_micros=amount,
        needs_approval=_needs_approval(account, amount, by, now),
        limit_micros=limit_micros(account.currency),
    )


def ask(
    *,
    kind: Kind,
    organization: Organization,
    params: dict[str, Any],
    reason: str,
    public_id: UUID,
    by: User,
    now: datetime,
) -> StaffAction:
    """Do the action, or where it is above the limit, have it wait for a second person; once per `public_id`.

    Raises Refused, FormReused, and ledger.accounts.AccountFrozen.
    """
    known = _known(kind, organization, params, reason, public_id)
    if known is not None:
        return known
    account = account_of(organization)
    asked = StaffAction(
        public_id=public_id,
        organization=organization,
        kind=kind.name,
        params=params,
        reason=reason,
        amount_micros=kind.amount_micros(account, params, now=now),
        currency=account.currency,
        asked_by=by,
        asked_at=now,
    )
    if not _needs_approval(account, asked.amount_micros, by, now):
        kind.prepare(asked, now=now)
    with transaction.atomic():
        # The account's lock makes one of several sendings of a form the first, and the day's sum exact.
        account = accounts.lock(organization.pk, even_frozen=True)
        known = _known(kind, organization, params, reason, public_id)
        if known is not None:
            return known
        asked.needs_approval = _needs_approval(account, asked.amount_micros, by, now)
        asked.state = State.WAITING if asked.needs_approval else State.DONE
        if not asked.needs_approval:
            kind.perform(asked, now=now)
        asked.save()
        if asked.needs_approval:
            _tell_staff(asked, kind, now)
    log.info("staff action", action_id=asked.pk, kind=kind.name, organization_id=organization.pk, state=asked.state)
    return asked


def approve(public_id: UUID, *, by: User, now: datetime) -> StaffAction:
    """Do what another person asked for. Approving it again, by the same person, changes nothing.

    Raises SamePerson, AlreadyDecided, Refused if it cannot be done any more, and ledger.accounts.AccountFrozen.
    """
    waiting = StaffAction.objects.select_related("organization__account").get(public_id=public_id)
    if waiting.state == State.DONE and waiting.decided_by_id == by.pk:
        return waiting
    _assert_decidable(waiting, by)
    kinds.named(waiting.kind).prepare(waiting, now=now)
    with transaction.atomic():
        action = _lock(public_id)
        if action.state == State.DONE and action.decided_by_id == by.pk:
            return action
        _assert_decidable(action, by)
        kinds.named(action.kind).perform(action, now=now)
        _decide(action, State.DONE, by, now)
    log.info("staff action approved", action_id=action.pk, kind=action.kind, organization_id=action.organization_id)
    return action


def decline(public_id: UUID, *, by: User, reason: str, now: datetime) -> StaffAction:
    """Refuse what another person asked for. Raises SamePerson and AlreadyDecided."""
    with transaction.atomic():
        action = _lock(public_id)
        _assert_decidable(action, by)
        _decide(action, State.DECLINED, by, now, reason=reason)
    return action


def withdraw(public_id: UUID, *, by: User) -> StaffAction:
    """Take back what one asked for oneself, before anybody decided. Raises AlreadyDecided, StaffAction.DoesNotExist."""
    with transaction.atomic():
        action = _lock(public_id)
        if action.asked_by_id != by.pk:
            raise StaffAction.DoesNotExist
        if action.state != State.WAITING:
            raise AlreadyDecided(action)
        action.state = State.WITHDRAWN
        action.save(update_fields=["state"])
    return action


def limit_micros(currency: str) -> int:
    """Return what one person may do alone in a day; nothing in a currency without a limit of its own."""
    return int(settings.STAFF_LIMIT_MICROS.get(currency, 0))


def _needs_approval(account: Account, amount_micros: int | None, by: User, now: datetime) -> bool:
    if amount_micros is None:
        return False
    alone = StaffAction.objects.filter(
        organization_id=account.organization_id,
        asked_by=by,
        asked_at__gt=now - _DAY,
        needs_approval=False,
        amount_micros__isnull=False,
    )
    done = alone.aggregate(micros=Sum("amount_micros"))["micros"] or 0
    return int(done) + amount_micros > limit_micros(account.currency)


def _known(
    kind: Kind, organization: Organization, params: dict[str, Any], reason: str, public_id: UUID
) -> StaffAction | None:
    known = StaffAction.objects.filter(public_id=public_id).first()
    if known is None:
        return None
    if (known.kind, known.organization_id, known.params, known.reason) != (kind.name, organization.pk, params, reason):
        raise FormReused(known)
    return known


def _lock(public_id: UUID) -> StaffAction:
    locked = StaffAction.objects.select_for_update(of=("self",)).select_related("organization__account")
    return locked.get(public_id=public_id)


def _assert_decidable(action: StaffAction, by: User) -> None:
    if action.state != State.WAITING:
        raise AlreadyDecided(action)
    if action.asked_by_id == by.pk:
        raise SamePerson(action)


def _decide(action: StaffAction, state: State, by: User, now: datetime, *, reason: str = "") -> None:
    action.state, action.decided_by, action.decided_at, action.decision_reason = state, by, now, reason
    action.save(update_fields=["state", "decided_by", "decided_at", "decision_reason"])


def _tell_staff(action: StaffAction, kind: Kind, now: datetime) -> None:
    letters.write(
        template="emails/approval_asked",
        reference=f"approval:{action.public_id}",
        to=settings.STAFF_NOTICE_EMAILS,
        organization=action.organization,
        action=action,
        kind=kind,
        now=now,
    )


__all__ = [
    "AlreadyDecided",
    "FormReused",
    "Preview",
    "Refused",
    "SamePerson",
    "approve",
    "ask",
    "decline",
    "limit_micros",
    "preview",
    "withdraw",
]
