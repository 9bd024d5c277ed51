"""The mail that tells customers of new outcome rules, with what they mean on the customer's own last month."""

from datetime import datetime

from billing_portal.portal import proposal_letters, rule_news
from usage.models import RuleImpact, RuleProposal


def tell(*, now: datetime, limit: int = 1_000) -> int:
    """Write to up to `limit` organizations of rules that were entered; return how many that were. Safe twice."""
    return proposal_letters.tell(RuleProposal, _write, now=now, limit=limit)


def tell_of_ends(*, now: datetime, limit: int = 1_000) -> int:
    """Write to up to `limit` organizations that rules they were told of do not come; return how many. Safe twice."""
    return proposal_letters.tell_of_ends(RuleProposal, "rules_taken_back", now=now, limit=limit)


def _write(impact: RuleImpact, now: datetime) -> None:
    coming = rule_news.of(impact.organization, now=now).coming
    proposal_letters.write(impact, coming, what="rules", now=now)
