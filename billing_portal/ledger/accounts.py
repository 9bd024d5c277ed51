"""The books of an organization, and the lock on them."""

from datetime import datetime

from django.conf import settings
from django.db import transaction

from accounts.models import Organization
from billing_portal.ledger.models import Account


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


def lock(organization_id: int) -> Account:
    """Take the row lock under which everything happens to this organization's money.

    Call it inside a transaction and before the first read, so that what is read cannot change before it is used.
    """
    account = Account.objects.select_for_update(of=("self",)).select_related("organization")
    found = account.filter(organization_id=organization_id).first()
    if found is None:
        raise AccountMissing(organization_id)
    return found


def limit_arrears(organization_id: int, *, micros: int) -> None:
    """Set how much the organization may owe on its card before usage stops."""
    with transaction.atomic():
        account = lock(organization_id)
        account.arrears_limit_micros = micros
        account.save(update_fields=["arrears_limit_micros"])
