"""Telling customers of what was proposed and entered, and of what is taken back before it starts.

Whoever is concerned is told once; that something does not come is told to those who had been told that it comes.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.db import transaction

from accounts import letters
from usage.models.proposals import Proposal, ProposalState

_BATCH = 100


def tell(model: type[Proposal], write: Callable[[Any, datetime], None], *, now: datetime, limit: int) -> int:
    """Write to up to `limit` organizations of what was entered; return how many that were. Safe twice."""
    told = 0
    for proposal in model._default_manager.filter(state=ProposalState.ENTERED, is_told=False).order_by("id"):
        while told < limit:
            written = _tell_some(proposal, write, now)
            told += written
            if not written:
                model._default_manager.filter(pk=proposal.pk).update(is_told=True)
                break
    return told


def tell_of_ends(model: type[Proposal], template: str, *, now: datetime, limit: int) -> int:
    """Write to up to `limit` organizations that what they were told of does not come; return how many. Safe twice."""
    told = 0
    for proposal in model._default_manager.filter(state=ProposalState.REVOKED, is_end_told=False).order_by("id"):
        while told < limit:
            written = _tell_some_of_the_end(proposal, template, now)
            told += written
            if not written:
                model._default_manager.filter(pk=proposal.pk).update(is_end_told=True)
                break
    return told


def write(impact: Any, coming: Iterable[Any], *, what: str, now: datetime) -> None:
    """Write of the version that was entered, one of those `coming`; `what` is "prices" or "rules"."""
    organization, version = impact.organization, impact.proposal.version
    news = next((each for each in coming if each.version == version), None)
    if news is None:  # it is in force by now, or the organization has a book of its own since
        return
    letters.write(
        template=f"emails/{what}_coming",
        reference=f"{what}-coming:{version.pk}:{organization.pk}",
        to=letters.billing_addresses(organization),
        organization=organization,
        news=news,
        now=now,
    )


@transaction.atomic
def _tell_some(proposal: Any, write: Callable[[Any, datetime], None], now: datetime) -> int:
    untold = proposal.impacts.filter(told_at=None).select_related("organization", "proposal__version", "proposal__book")
    impacts = list(untold.order_by("id").select_for_update(of=("self",))[:_BATCH])
    for impact in impacts:
        write(impact, now)
        impact.told_at = now
        impact.save(update_fields=["told_at"])
    return len(impacts)


@transaction.atomic
def _tell_some_of_the_end(proposal: Any, template: str, now: datetime) -> int:
    untold = proposal.impacts.filter(told_at__isnull=False, told_of_end_at=None).select_related("organization")
    impacts = list(untold.order_by("id").select_for_update(of=("self",))[:_BATCH])
    for impact in impacts:
        letters.write(
            template=f"emails/{template}",
            reference=f"{template}:{proposal.pk}:{impact.organization_id}",
            to=letters.billing_addresses(impact.organization),
            organization=impact.organization,
            proposal=proposal,
            now=now,
        )
        impact.told_of_end_at = now
        impact.save(update_fields=["told_of_end_at"])
    return len(impacts)
