"""What a correction changes in money: pure arithmetic, component by component.

What a component costs more is charged; what it costs less is given back. So no charge is ever negative, and charged
less given back is the price now less the price before, whatever corrections came in between.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delta:
    """Micros charged by the places of the new price's lines, and micros given back by component."""

    line_micros: tuple[int, ...]
    given_back: dict[str, int]

    @property
    def charged_micros(self) -> int:
        return sum(self.line_micros)

    @property
    def given_back_micros(self) -> int:
        return sum(self.given_back.values())


def between(before: Mapping[str, int], components: Sequence[str], line_micros: Sequence[int]) -> Delta:
    """Return what changes from `before`, micros by component, to lines of these components and micros.

    What a component costs more stands in its lines, the first first, none with more than it costs. Zeros at the end are
    left out, as a rating does.
    """
    after = by_component(components, line_micros)
    more = Counter({component: max(0, micros - before.get(component, 0)) for component, micros in after.items()})
    charged = []
    for component, micros in zip(components, line_micros, strict=False):
        part = min(micros, more[component])
        more[component] -= part
        charged.append(part)
    while charged and not charged[-1]:
        charged.pop()
    less = {component: micros - after[component] for component, micros in sorted(before.items())}
    return Delta(tuple(charged), {component: micros for component, micros in less.items() if micros > 0})


def by_component(components: Sequence[str], line_micros: Sequence[int]) -> Counter[str]:
    """Return micros by component of lines whose zeros at the end may be left out."""
    sums: Counter[str] = Counter()
    for component, micros in zip(components, line_micros, strict=False):
        sums[component] += micros
    return +sums
