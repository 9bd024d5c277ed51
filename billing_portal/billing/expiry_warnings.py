"""Letters before credit expires: 14 and 3 days ahead, and on its last day; each once a grant.

A letter's reference names the grant and how early it is, so the sweep may run as often as it likes. A grant that is
younger than its warning gets the next one only.
"""

from datetime import datetime, timedelta

from django.db.models import CharField, Exists, OuterRef, QuerySet, Value
from django.db.models.functions import Cast, Concat

from accounts import letters
from accounts.models import Letter, Organization
from billing_portal.billing import cards
from billing_portal.ledger import balances, credits
from billing_portal.ledger.models import Account, Grant

DAYS_BEFORE = (0, 3, 14)  # the most urgent first


def warn(*, now: datetime, limit: int = 500) -> int:
    """Write the warnings that are due, at most so many; return how many letters that were."""
    return sum(_warn(grant, days, now=now) for days in DAYS_BEFORE for grant in _running_out(days, now=now)[:limit])


def _running_out(days: int, *, now: datetime) -> QuerySet[Grant]:
    """Return grants with something left whose end is near, roughly, and of which this warning was not written."""
    name = Concat(Value("credit_expires:"), Cast(OuterRef("pk"), CharField()), Value(f":{days}"))
    near = Grant.objects.filter(
        remaining_micros__gt=0, expires_at__gt=now, expires_at__lte=now + timedelta(days=days + 2)
    ).exclude(organization__status=Organization.Status.CLOSED)
    unwritten = near.filter(~Exists(Letter.objects.filter(reference=name)))
    return unwritten.select_related("organization").order_by("expires_at", "id")


def _warn(grant: Grant, days: int, *, now: datetime) -> int:
    """Write one warning if it is the one for now: the most urgent that applies."""
    organization = grant.organization
    left = credits.days_left(grant, zone=organization.zone, now=now)
    if left is None or days != next((each for each in DAYS_BEFORE if left <= each), None):
        return 0
    balance = balances.balance(Account.objects.get(organization=organization), now=now)
    return letters.write(
        template="emails/credit_expires",
        reference=f"credit_expires:{grant.pk}:{days}",
        to=letters.billing_addresses(organization),
        organization=organization,
        grant=grant,
        when={0: "today", 1: "tomorrow"}.get(left, f"in {left} days"),
        other_credit_micros=balance.credit_micros - grant.remaining_micros,
        has_card=cards.has_usable_card(organization),
        now=now,
    )
