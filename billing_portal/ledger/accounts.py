"""The books of an organization, and the lock on them."""

from collections.abc import Iterable
from datetime import datetime

import structlog
from django.conf import settings
from django.db import transaction

from accounts.models import Organization
from billing_portal.ledger.models import Account

log = structlog.get_logger(__name__)


class AccountFrozen(Exception):
    """No money moves on the account until staff lift the freeze."""

    def __init__(self, account: Account) -> None:
        super().__init__(f"The account of organization {account.organization_id} is frozen: {account.frozen_reason}")
        self.organization_id = account.organization_id
        self.reason = account.frozen_reason


class AccountMissing(Exception):
    """The organization has no books: `open` was never called for it."""

    def __init__(self, organization_id: int) -> None:
        super().__init__(f"Organization {organization_id} has no ledger account.")
        self.organization_id = organization_id


def open(*, organization: Organization, now: datetime) -> Account:  # noqa: A001 - the ledger's own verb
    """Open the organization's books; opening them again returns them unchanged."""
    account, _ = Account.objects.get_or_create(
        organization=organization,
        defaults={
            "currency": organization.currency,
            "arrears_limit_micros": settings.ARREARS_LIMIT_MICROS.get(organization.currency, 0),
            "opened_at": now,
        },
    )
    return account


def lock(organization_id: int, *, even_frozen: bool = False) -> Account:
    """Take the row lock under which everything happens to this organization's money.

    Call it inside a transaction and before the first read, so that what is read cannot change before it is used.
    Raises AccountMissing, and AccountFrozen unless `even_frozen`, which only those ask for who move no money.
    """
    account = Account.objects.select_for_update(of=("self",)).select_related("organization")
    found = account.filter(organization_id=organization_id).first()
    if found is None:
        raise AccountMissing(organization_id)
    if found.frozen_at is not None and not even_frozen:
        raise AccountFrozen(found)
    return found


def lock_many(organization_ids: Iterable[int], *, even_frozen: bool = False) -> list[Account]:
    """Take the locks of several organizations at once, as `lock` takes one; return those accounts, in order.

    Who has no books is left out, and who is frozen, unless `even_frozen`. Everyone who takes many takes them in this
    order, so nobody waits in a circle.
    """
    accounts = Account.objects.select_for_update(of=("self",)).select_related("organization")
    wanted = accounts.filter(organization_id__in=list(organization_ids))
    if not even_frozen:
        wanted = wanted.filter(frozen_at=None)
    return list(wanted.order_by("organization_id"))


def not_frozen(organization_ids: Iterable[int]) -> list[int]:
    """Return which of the organizations have books in which money may move, in order."""
    wanted = Account.objects.filter(organization_id__in=list(organization_ids), frozen_at=None)
    return list(wanted.order_by("organization_id").values_list("organization_id", flat=True))


def freeze(organization_id: int, *, reason: str, now: datetime) -> Account:
    """Let no money move on the account until `unfreeze`; the first reason stands. Doing it twice is doing it once."""
    with transaction.atomic():
        account = lock(organization_id, even_frozen=True)
        if account.frozen_at is None:
            account.frozen_at, account.frozen_reason = now, reason[:300]
            account.save(update_fields=["frozen_at", "frozen_reason"])
            log.error("account frozen", organization_id=organization_id)
    return account


def unfreeze(organization_id: int) -> Account:
    """Let money move again. Doing it twice is doing it once."""
    with transaction.atomic():
        account = lock(organization_id, even_frozen=True)
        if account.frozen_at is not None:
            account.frozen_at, account.frozen_reason = None, ""
            account.save(update_fields=["frozen_at", "frozen_reason"])
            log.warning("account unfrozen", organization_id=organization_id)
    return account


def limit_arrears(organization_id: int, *, micros: int) -> None:
    """Set how much the organization may owe on its card before usage stops."""
    with transaction.atomic():
        account = lock(organization_id)
        account.arrears_limit_micros = micros
        account.save(update_fields=["arrears_limit_micros"])
