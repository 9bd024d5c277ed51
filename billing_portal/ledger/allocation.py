"""Spending credit on priced lines: a pure function, without a database."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Allocation:
    """How a sequence of priced lines was funded, in micros per component."""

    gross: Counter[str] = field(default_factory=Counter)
    burnt: Counter[tuple[int, str]] = field(default_factory=Counter)  # by (position of the grant, component)
    accrued: Counter[str] = field(default_factory=Counter)


def allocate(lines: Iterable[tuple[str, int]], remainders: list[int]) -> Allocation:
    """Spend `remainders` in order on `lines` of (component, micros); what they do not cover is accrued.

    Pure. For every component, gross = burnt + accrued; and splitting the lines in two, the second part with what the
    first one left, gives the same sums (I8).
    """
    result = Allocation()
    left = list(remainders)
    position = 0
    for component, micros in lines:
        result.gross[component] += micros
        owed = micros
        while owed and position < len(left):
            taken = min(owed, left[position])
            if taken:
                result.burnt[position, component] += taken
                left[position] -= taken
                owed -= taken
            if not left[position]:
                position += 1
        if owed:
            result.accrued[component] += owed
    return result
