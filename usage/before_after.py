"""Amounts under what was in force beside amounts under something else: proposed prices, proposed rules, a what-if."""

from collections.abc import Mapping
from dataclasses import dataclass

from usage.models import Component, OutcomeType


@dataclass(frozen=True, slots=True)
class Row:
    """What something came to and would have come to, in micros; of outcomes also how many there were."""

    label: str
    before_micros: int
    after_micros: int
    before: int | None = None
    after: int | None = None

    @property
    def change_micros(self) -> int:
        return self.after_micros - self.before_micros


def by_component(before: Mapping[str, int], after: Mapping[str, int]) -> list[Row]:
    """Return a row for each component of a call that comes to anything in either, given micros by component."""
    return [
        Row(str(component.label), before.get(component, 0), after.get(component, 0))
        for component in Component
        if before.get(component) or after.get(component)
    ]


def by_outcome(before: Mapping[str, list[int]], after: Mapping[str, list[int]]) -> list[Row]:
    """Return a row for each type of outcome that either has, given `[how many, micros at list price]` by type."""
    rows = []
    for outcome in OutcomeType:
        was, becomes = before.get(outcome, [0, 0]), after.get(outcome, [0, 0])
        if was[0] or becomes[0]:
            rows.append(Row(str(outcome.label), was[1], becomes[1], was[0], becomes[0]))
    return rows
