"""New outcome rules, from a proposal to the version in the book: what `usage.proposing` has to know of rules."""

from datetime import datetime
from typing import Any

from usage.models import OutcomeRuleVersion, RuleProposal
from usage.outcomes import impacts, rule_documents, rules
from usage.proposing import Proposals


def _starts_at(document: dict[str, Any]) -> datetime:
    return rule_documents.entry(document).starts_at_utc


def _enter(proposal: RuleProposal, number: int, now: datetime) -> OutcomeRuleVersion:
    return rules.load({"rules": [{**proposal.document, "number": number}]}, now=now)[0]


_rules = Proposals(
    model=RuleProposal,
    starts_at=_starts_at,
    versions=lambda book: book.outcome_rules.all(),
    begin=impacts.begin,
    enter=_enter,
    is_editable=rules.editable,
    remove=lambda version: version.delete(),
)

propose, preview_again, withdraw = _rules.propose, _rules.preview_again, _rules.withdraw
ask, approve, decline, revoke = _rules.ask, _rules.approve, _rules.decline, _rules.revoke
