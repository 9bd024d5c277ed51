"""What an organization has and owes right now."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Sum

from billing_portal.ledger import credits
from billing_portal.ledger.models import Account


@dataclass(frozen=True, slots=True)
class Balance:
    """Micros of the account's currency: credit still spendable, and what is accrued and not yet paid."""

    credit_micros: int
    accrued_micros: int
    currency: str


def balance(account: Account, *, now: datetime) -> Balance:
    """Return the organization's balance at `now`; two indexed reads, however long its journal is."""
    credit = credits.spendable(account, now=now).aggregate(micros=Sum("remaining_micros"))["micros"]
    # Read anew: the caller's row may be older than the last entry.
    accrued = Account.objects.values_list("accrued_micros", flat=True).get(pk=account.pk)
    return Balance(credit_micros=int(credit or 0), accrued_micros=accrued, currency=account.currency)
