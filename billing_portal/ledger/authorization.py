"""May the organization spend now, how much, and if not, why."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from accounts.models import Organization
from billing_portal.ledger import balances
from billing_portal.ledger.models import Account


class Reason(StrEnum):
    """Why usage is stopped."""

    SUSPENDED = "suspended"
    FROZEN = "frozen"
    CREDIT_USED_UP = "credit_used_up"
    ARREARS_LIMIT = "arrears_limit"


@dataclass(frozen=True, slots=True)
class Authorization:
    """`available_micros` is credit left plus, with a card, what may still be accrued."""

    allowed: bool
    available_micros: int
    reason: Reason | None


def authorize(account: Account, *, has_card: bool, now: datetime) -> Authorization:
    """Decide from the settled balance: with a card up to the arrears limit, without one until the credit ends."""
    if account.organization.status != Organization.Status.ACTIVE:
        return Authorization(allowed=False, available_micros=0, reason=Reason.SUSPENDED)
    if account.frozen_at is not None:
        return Authorization(allowed=False, available_micros=0, reason=Reason.FROZEN)
    balance = balances.balance(account, now=now)
    headroom = max(0, account.arrears_limit_micros - balance.accrued_micros) if has_card else 0
    available = balance.credit_micros + headroom
    if available > 0:
        return Authorization(allowed=True, available_micros=available, reason=None)
    reason = Reason.ARREARS_LIMIT if has_card else Reason.CREDIT_USED_UP
    return Authorization(allowed=False, available_micros=0, reason=reason)
