"""A new customer's first step: an organization with its books, its welcome credit and its Stripe subscription."""

from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import queueing, signup
from accounts.models import Organization, User
from billing_portal.ledger import accounts, welcome
from billing_portal.portal import tasks
from usage import prices


class CurrencyUnpriced(ValueError):
    """No price book exists in this currency, so nothing could ever be charged in it."""


def open_organization(
    *,
    user: User,
    name: str,
    currency: str,
    time_zone: str,
    now: datetime,
    token: UUID | None = None,
    reference: str | None = None,
) -> Organization:
    """Make an organization that `user` owns, open its books and give the welcome credit it earns; once per `token`.

    Stripe learns of it after the commit, in a task; a sweep repeats what was lost. Raises CurrencyUnpriced.
    """
    if currency not in prices.currencies():
        raise CurrencyUnpriced(currency)
    with transaction.atomic():
        organization = signup.register(
            user=user,
            name=name,
            currency=currency,
            time_zone=time_zone,
            terms_version=settings.TERMS_VERSION,
            now=now,
            token=token,
            reference=reference,
        )
        accounts.open(organization=organization, now=now)
        welcome.give(organization=organization, email=user.email, now=now)
        queueing.on_commit(tasks.subscribe, organization.pk)
    return organization
