"""Rules beside other rules, in words: the sentences that differ, the prices, and what a change makes of outcomes."""

from dataclasses import dataclass

from usage.models.outcomes import OutcomeType
from usage.outcomes import explanations
from usage.outcomes.judging import Reason, Rules


@dataclass(frozen=True, slots=True)
class PriceChange:
    """The price of one outcome under two versions, in micros; None where it is never charged."""

    outcome: str
    label: str
    before_micros: int | None
    after_micros: int | None


def differing(before: Rules, after: Rules) -> tuple[list[str], list[str]]:
    """Return the sentences that hold only before, and those that hold only after."""
    old, new = explanations.texts(before), explanations.texts(after)
    return [text for text in old if text not in new], [text for text in new if text not in old]


def price_changes(before: Rules, after: Rules) -> list[PriceChange]:
    """Return the outcomes whose price differs, in the order of their types."""
    changes = []
    for outcome in OutcomeType:
        old, new = before.prices.get(outcome), after.prices.get(outcome)
        if old != new:
            changes.append(PriceChange(outcome, str(outcome.label), old, new))
    return changes


def flip(change: str) -> str:
    """Return a changed outcome in words: "assumed resolution → no outcome"."""
    before, _, after = change.partition(">")
    return f"{_outcome(before)} → {_outcome(after)}"


def _outcome(code: str) -> str:
    outcome, _, basis = code.partition(":")
    if not outcome:
        return "no outcome"
    named = explanations.name_of(outcome)
    if outcome != OutcomeType.RESOLUTION:
        return named
    return f"{'assumed' if basis == Reason.ASSUMED else 'confirmed'} {named}"
