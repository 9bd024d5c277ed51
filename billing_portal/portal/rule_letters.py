"""The mail that tells customers of new outcome rules, with what they mean on the customer's own last month.

Rules that are taken back before they start are told of to those who had been told that they come, and to nobody else.
"""

from datetime import datetime

from django.db import transaction

from accounts import letters
from billing_portal.portal import rule_news
from usage.models import RuleImpact, RuleProposal

_BATCH = 100


def tell(*, now: datetime, limit: int = 1_000) -> int:
    """Write to up to `limit` organizations of rules that were entered; return how many that were. Safe twice."""
    told = 0
    for proposal in RuleProposal.objects.filter(state=RuleProposal.State.ENTERED, is_told=False).order_by("id"):
        while told < limit:
            written = _tell_some(proposal, now)
            told += written
            if not written:
                RuleProposal.objects.filter(pk=proposal.pk).update(is_told=True)
                break
    return told


def tell_of_ends(*, now: datetime, limit: int = 1_000) -> int:
    """Write to up to `limit` organizations that rules they were told of do not come; return how many. Safe twice."""
    told = 0
    for proposal in RuleProposal.objects.filter(state=RuleProposal.State.REVOKED, is_end_told=False).order_by("id"):
        while told < limit:
            written = _tell_some_of_the_end(proposal, now)
            told += written
            if not written:
                RuleProposal.objects.filter(pk=proposal.pk).update(is_end_told=True)
                break
    return told


@transaction.atomic
def _tell_some_of_the_end(proposal: RuleProposal, now: datetime) -> int:
    untold = proposal.impacts.filter(told_at__isnull=False, told_of_end_at=None).select_related("organization")
    impacts = list(untold.order_by("id").select_for_update(of=("self",))[:_BATCH])
    for impact in impacts:
        letters.write(
            template="emails/rules_taken_back",
            reference=f"rules-taken-back:{proposal.pk}:{impact.organization_id}",
            to=letters.billing_addresses(impact.organization),
            organization=impact.organization,
            proposal=proposal,
            now=now,
        )
        impact.told_of_end_at = now
        impact.save(update_fields=["told_of_end_at"])
    return len(impacts)


@transaction.atomic
def _tell_some(proposal: RuleProposal, now: datetime) -> int:
    untold = proposal.impacts.filter(told_at=None).select_related("organization", "proposal__version", "proposal__book")
    impacts = list(untold.order_by("id").select_for_update(of=("self",))[:_BATCH])
    for impact in impacts:
        _write(impact, now)
        impact.told_at = now
        impact.save(update_fields=["told_at"])
    return len(impacts)


def _write(impact: RuleImpact, now: datetime) -> None:
    organization, version = impact.organization, impact.proposal.version
    assert version is not None
    standing = rule_news.of(organization, now=now)
    news = next((each for each in standing.coming if each.version == version), None)
    if news is None:  # it is in force by now, or the organization has rules of its own since
        return
    letters.write(
        template="emails/rules_coming",
        reference=f"rules-coming:{version.pk}:{organization.pk}",
        to=letters.billing_addresses(organization),
        organization=organization,
        news=news,
        now=now,
    )
