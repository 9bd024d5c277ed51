"""What is measured, one module a subject: `manage.py bench <subject>`.

A subject is a module of this package. Its docstring's first line says what it measures; `measure(options)` yields
`Figure`s as it gets them; `add_arguments(parser)`, if it has one, says what it can be told. It runs with Django set up,
on a migrated and otherwise empty database with crash safety on, which is gone afterwards.
"""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure must keep to: `at_most(2)`, `at_least(25)`."""

    sign: str
    bound: float

    def holds(self, value: float) -> bool:
        return value <= self.bound if self.sign == "≤" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.sign} {_short(self.bound)}"


def at_most(bound: float) -> Goal:
    return Goal("≤", bound)


def at_least(bound: float) -> Goal:
    return Goal("≥", bound)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    `limit` is the yardstick that the same run measured, in the same unit; then the goal is about value ÷ limit.
    Without a limit the goal is about the value, and without a goal the figure only informs.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    goal: Goal | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.limit is None else self.value / self.limit

    @property
    def holds(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if self.goal is None:
            return None
        return self.goal.holds(self.value if self.ratio is None else self.ratio)

    def as_json(self) -> str:
        """Return the figure as one line of JSON."""
        document: dict[str, Any] = {"name": self.name, "value": self.value, "unit": self.unit, "limit": self.limit}
        document |= {"ratio": self.ratio, "goal": None if self.goal is None else str(self.goal), "holds": self.holds}
        return json.dumps(document, ensure_ascii=False)

    def as_text(self) -> str:
        """Return the figure as one line for people."""
        line = f"{self.name:<52} {_short(self.value):>10} {self.unit:<6}"
        if self.limit is not None and self.ratio is not None:
            line += f" limit {_short(self.limit):>8}  {_short(self.ratio):>6} ×"
        if self.goal is not None:
            line += f"  goal {self.goal}{' ×' if self.limit else ''}  {'holds' if self.holds else 'MISSED'}"
        return line


def _short(value: float) -> str:
    """Return three significant digits, and all digits of what is larger."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
