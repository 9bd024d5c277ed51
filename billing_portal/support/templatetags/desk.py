"""What the desk's templates show: exact amounts, and in the frame of every page, what waits for somebody."""

from typing import Any

from django import template

from billing_portal.billing import minor_units
from billing_portal.billing.models import Dispute
from billing_portal.ledger.models import Account
from billing_portal.support import amounts
from billing_portal.support.models import StaffAction
from usage.models import Backfill, PriceProposal, RuleProposal

register = template.Library()


@register.filter
def amount(micros: int | None, currency: str) -> str:
    """Return micros as an exact amount with its currency."""
    return amounts.amount(micros, currency)


@register.filter
def change(micros: int, currency: str) -> str:
    """Return a difference in micros as an exact amount with its sign and its currency."""
    return f"{'+' if micros > 0 else ''}{amounts.amount(micros, currency)}"


@register.filter
def amount_minor(minor: int, currency: str) -> str:
    """Return an amount of Stripe's as an exact one with its currency."""
    return amounts.amount(minor_units.to_micros(minor, currency), currency)


@register.simple_tag
def waiting() -> dict[str, Any]:
    """Return how many approvals, disputes, proposals and backfills wait, and how many accounts are frozen."""
    return {
        "approvals": StaffAction.objects.filter(state=StaffAction.State.WAITING).count(),
        "disputes": Dispute.objects.filter(state=Dispute.State.OPEN, due_at__isnull=False).count(),
        "rules": RuleProposal.objects.filter(state=RuleProposal.State.WAITING).count(),
        "prices": PriceProposal.objects.filter(state=PriceProposal.State.WAITING).count(),
        "backfills": Backfill.objects.filter(state=Backfill.State.COUNTED).count(),
        "frozen": Account.objects.filter(frozen_at__isnull=False).count(),
    }
