"""The outcome rules of an organization: those in force, those to come, and what they mean on its own last month."""

from dataclasses import dataclass
from datetime import date, datetime

from accounts.models import Organization
from billing_portal.portal import formats
from usage.models import OutcomeRuleVersion, OutcomeType, RuleImpact
from usage.outcomes import explanations, rule_texts, rules
from usage.outcomes.judging import Rules
from usage.outcomes.rule_texts import PriceChange


@dataclass(frozen=True, slots=True)
class Row:
    """One type of outcome in the month: how many there were and would have been, and micros at list price."""

    label: str
    before: int
    after: int
    before_micros: int
    after_micros: int

    @property
    def change_micros(self) -> int:
        return self.after_micros - self.before_micros


@dataclass(frozen=True, slots=True)
class Flip:
    """Conversations that would have come to something else, with some to look at."""

    text: str
    count: int
    examples: list[str]


@dataclass(frozen=True, slots=True)
class OnTheLastMonth:
    """What rules to come would have meant for the organization's own conversations of a month."""

    month: date
    impact: RuleImpact
    rows: list[Row]
    flips: list[Flip]

    @property
    def change_micros(self) -> int:
        return self.impact.change_micros


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


def on_the_last_month(impact: RuleImpact) -> OnTheLastMonth:
    """Return an impact as its organization reads it."""
    rows = []
    for outcome in OutcomeType:
        was, becomes = impact.before.get(outcome, [0, 0]), impact.after.get(outcome, [0, 0])
        if was[0] or becomes[0]:
            rows.append(Row(str(outcome.label), was[0], becomes[0], was[1], becomes[1]))
    flips = [
        Flip(rule_texts.flip(change), flip["count"], flip["examples"])
        for change, flip in sorted(impact.flips.items(), key=lambda each: -each[1]["count"])
    ]
    return OnTheLastMonth(impact.proposal.month, impact, rows, flips)


def headline(last: OnTheLastMonth | None, currency: str) -> str:
    """Return in a sentence what rules to come mean on the last month."""
    if last is None or not last.impact.conversations:
        return "You had no conversations in the month before this was announced, so there is nothing to compare."
    month, change = formats.month(last.month), last.change_micros
    if not change:
        return f"On your {month}, these rules would have changed nothing that you pay."
    amount = formats.money(abs(change), currency)
    return f"On your {month}, these rules would have cost {amount} {'more' if change > 0 else 'less'}."


def _coming(organization: Organization, before: Rules | None, after: Rules) -> Coming:
    stored = _stored(after)
    impacts = RuleImpact.objects.filter(organization=organization, proposal__version=stored)
    impact = impacts.select_related("proposal").first()
    until_then, from_then_on = rule_texts.differing(before, after) if before else ([], explanations.texts(after))
    last_month = on_the_last_month(impact) if impact else None
    return Coming(
        version=stored,
        headline=headline(last_month, organization.currency),
        prices=rule_texts.price_changes(before, after) if before else [],
        until_then=until_then,
        from_then_on=from_then_on,
        last_month=last_month,
    )


def _stored(version: Rules) -> OutcomeRuleVersion:
    return OutcomeRuleVersion.objects.get(pk=version.version_id)


def _prices(version: Rules) -> list[tuple[str, int]]:
    return [(str(each.label), version.prices[each]) for each in OutcomeType if each in version.prices]
