"""What a customer is told of prices and rules to come: what they mean on the organization's own last month."""

from dataclasses import dataclass
from datetime import date

from billing_portal.portal import formats
from usage import before_after
from usage.before_after import Row
from usage.models import PriceImpact, RuleImpact
from usage.outcomes import rule_texts


@dataclass(frozen=True, slots=True)
class Flip:
    """Conversations that would have come to something else, with some to look at."""

    text: str
    count: int
    examples: list[str]


@dataclass(frozen=True, slots=True)
class OnTheLastMonth:
    """What something to come would have meant for the organization's own month; only rules flip conversations."""

    month: date
    impact: PriceImpact | RuleImpact
    rows: list[Row]
    flips: list[Flip]

    @property
    def total(self) -> Row:
        return Row("Total", self.impact.before_micros, self.impact.after_micros)


def of_prices(impact: PriceImpact | None) -> OnTheLastMonth | None:
    """Return the impact of prices as its organization reads it; None where it had nothing to rate anew."""
    if impact is None or not impact.counted:
        return None
    rows = before_after.by_component(impact.before, impact.after)
    return OnTheLastMonth(impact.proposal.month, impact, rows, [])


def of_rules(impact: RuleImpact | None) -> OnTheLastMonth | None:
    """Return the impact of rules as its organization reads it; None where it had nothing to judge anew."""
    if impact is None or not impact.counted:
        return None
    rows = before_after.by_outcome(impact.before, impact.after)
    flips = [
        Flip(rule_texts.flip(change), flip["count"], flip["examples"])
        for change, flip in sorted(impact.flips.items(), key=lambda each: -each[1]["count"])
    ]
    return OnTheLastMonth(impact.proposal.month, impact, rows, flips)


def headline(last: OnTheLastMonth | None, currency: str, *, of: str, what: str) -> str:
    """Return in a sentence what something to come (`what`: "prices") means on the last month (`of`: "calls")."""
    if last is None:
        return f"You had no {of} in the month before this was announced, so there is nothing to compare."
    month, change = formats.month(last.month), last.impact.change_micros
    if not change:
        return f"On your {month}, these {what} would have changed nothing that you pay."
    amount = formats.money(abs(change), currency)
    return f"On your {month}, these {what} would have cost {amount} {'more' if change > 0 else 'less'}."
