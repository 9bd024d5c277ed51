"""The outcome rules of an organization: those in force, those to come, and what they mean on its own last month."""

from dataclasses import dataclass
from datetime import datetime

from accounts.models import Organization
from billing_portal.portal import proposal_news
from billing_portal.portal.proposal_news import OnTheLastMonth
from usage.models import OutcomeRuleVersion, OutcomeType, RuleImpact
from usage.outcomes import explanations, rule_texts, rules
from usage.outcomes.judging import Rules
from usage.outcomes.rule_texts import PriceChange


@dataclass(frozen=True, slots=True)
class Coming:
    """A version that is not in force yet, beside the one that it follows."""

    version: OutcomeRuleVersion
    headline: str
    prices: list[PriceChange]
    until_then: list[str]
    from_then_on: list[str]
    last_month: OnTheLastMonth | None

    @property
    def changes_nothing(self) -> bool:
        return not (self.prices or self.until_then or self.from_then_on)


@dataclass(frozen=True, slots=True)
class Standing:
    """What judges a conversation that begins now, and what comes after it."""

    version: OutcomeRuleVersion | None
    texts: list[str]
    prices: list[tuple[str, int]]
    coming: list[Coming]


def of(organization: Organization, *, now: datetime) -> Standing:
    """Return the rules in force for an organization, and those to come."""
    book = rules.current([organization.pk])[organization.pk]
    in_force = book.at(now)
    followed, coming = in_force, []
    for starts_at in sorted({each.starts_at for each in (*book.own, *book.public) if each.starts_at > now}):
        version = book.at(starts_at)
        if version is not None and version.starts_at == starts_at:
            coming.append(_coming(organization, followed, version))
            followed = version
    return Standing(
        version=_stored(in_force) if in_force else None,
        texts=explanations.texts(in_force) if in_force else [],
        prices=_prices(in_force) if in_force else [],
        coming=coming,
    )


def _coming(organization: Organization, before: Rules | None, after: Rules) -> Coming:
    stored = _stored(after)
    impacts = RuleImpact.objects.filter(organization=organization, proposal__version=stored)
    impact = impacts.select_related("proposal").first()
    until_then, from_then_on = rule_texts.differing(before, after) if before else ([], explanations.texts(after))
    last_month = proposal_news.of_rules(impact)
    return Coming(
        version=stored,
        headline=proposal_news.headline(last_month, organization.currency, of="conversations", what="rules"),
        prices=rule_texts.price_changes(before, after) if before else [],
        until_then=until_then,
        from_then_on=from_then_on,
        last_month=last_month,
    )


def _stored(version: Rules) -> OutcomeRuleVersion:
    return OutcomeRuleVersion.objects.get(pk=version.version_id)


def _prices(version: Rules) -> list[tuple[str, int]]:
    return [(str(each.label), version.prices[each]) for each in OutcomeType if each in version.prices]
