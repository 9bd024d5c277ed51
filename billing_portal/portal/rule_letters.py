"""The mail that tells customers of new outcome rules, with what they mean on the customer's own last month."""

from datetime import datetime

from accounts import letters
from billing_portal.portal import proposal_letters, rule_news
from usage.models import RuleImpact, RuleProposal


def tell(*, now: datetime, limit: int = 1_000) -> int:
    """Write to up to `limit` organizations of rules that were entered; return how many that were. Safe twice."""
    return proposal_letters.tell(RuleProposal, _write, now=now, limit=limit)


def tell_of_ends(*, now: datetime, limit: int = 1_000) -> int:
    """Write to up to `limit` organizations that rules they were told of do not come; return how many. Safe twice."""
    return proposal_letters.tell_of_ends(RuleProposal, "rules_taken_back", now=now, limit=limit)


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
