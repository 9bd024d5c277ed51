"""Which units of a bucket and of the larger ones in its place were bought with which payment. Pure.

Units have no names. By convention those that were bought first are used first, and an upgrade carries over what is
left. So the units of each payment that were used, and those that are left and where, follow from the sums of entries.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Vessel:
    """One bucket of a family by the sums of its entries; `claimed` are units that were taken out, by payment.

    A payment is named by the bucket that was bought with it.
    """

    id: int
    bought: int
    used: int
    remaining: int
    came_from: int | None = None
    carried_in: int = 0
    claimed: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Share:
    """What became of the units of one payment: how many were used, and how many are left, by bucket."""

    used: int = 0
    left: dict[int, int] = field(default_factory=dict)


def shares(family: Sequence[Vessel]) -> dict[int, Share]:
    """Return each payment's share of a family of buckets, given in the order in which they were opened."""
    found = {vessel.id: Share() for vessel in family}
    rests: dict[int, dict[int, int]] = {}
    for vessel in family:
        layers = _draw_last(rests[vessel.came_from], vessel.carried_in) if vessel.came_from else {}
        layers[vessel.id] = vessel.bought
        rest = {each: max(0, units - vessel.claimed.get(each, 0)) for each, units in layers.items()}
        for each, units in _draw_first(rest, vessel.used).items():
            found[each].used += units
        rests[vessel.id] = rest
    for vessel in family:
        for each, units in _draw_first(rests[vessel.id], vessel.remaining).items():
            if units:
                found[each].left[vessel.id] = units
    return found


def _draw_first(rest: dict[int, int], units: int) -> dict[int, int]:
    """Take units from the layers that came first; return what each gave, and leave the rest."""
    drawn = {}
    for layer, there in rest.items():
        drawn[layer] = min(units, there)
        units -= drawn[layer]
        rest[layer] = there - drawn[layer]
    return drawn


def _draw_last(rest: dict[int, int], units: int) -> dict[int, int]:
    """Take units from the layers that came last, as the first ones are used first; return them in their own order."""
    turned = dict(reversed(rest.items()))
    drawn = _draw_first(turned, units)
    rest.update(turned)
    return dict(reversed(drawn.items()))
