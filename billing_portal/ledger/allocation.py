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


def allocate(
    lines: Iterable[tuple[str, int]], remainders: list[int], *, gross: Counter[str] | None = None
) -> Allocation:
    """Spend `remainders` in order on `lines` of (component, micros); what they do not cover is accrued.

    Where `gross` says what the lines add up to, those past the end of the credit are not looked at. Pure. For every
    component, gross = burnt + accrued; and splitting the lines in two, the second part with what the first one left,
    gives the same sums (I8).
    """
    result = Allocation()
    left = list(remainders)
    position = 0
    for component, micros in lines:
        if gross is not None and position == len(left):
            return _accrue_the_rest(result, gross)
        result.gross[component] += micros
        if position < len(left) and 0 < micros < left[position]:
            # Most lines: one grant pays, and something is left of it.
            result.burnt[position, component] += micros
            left[position] -= micros
            continue
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


def _accrue_the_rest(result: Allocation, gross: Counter[str]) -> Allocation:
    """Return the allocation with everything accrued that is not burnt."""
    accrued = Counter(gross)
    for (_, component), micros in result.burnt.items():
        accrued[component] -= micros
    return Allocation(gross=Counter(gross), burnt=result.burnt, accrued=+accrued)
