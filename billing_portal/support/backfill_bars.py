"""Who pays more and who less, as geometry: for each organization a bar to each side of a common middle."""

from collections.abc import Sequence
from dataclasses import dataclass

from usage.models import BackfillPart

_HALF = 50.0
_NARROWEST = 0.5


@dataclass(frozen=True, slots=True)
class Bars:
    """What is given back, to the left, and what is charged, to the right: percentages of the whole width."""

    less_left: str
    less_width: str
    more_width: str


def of(parts: Sequence[BackfillPart]) -> list[Bars]:
    """Return the bars of parts, all to one scale: the largest amount takes a half."""
    largest = max((max(each.more_micros, each.less_micros) for each in parts), default=0)
    made = []
    for each in parts:
        less, more = (_width(micros, largest) for micros in (each.less_micros, each.more_micros))
        made.append(Bars(_percent(_HALF - less), _percent(less), _percent(more)))
    return made


def _width(micros: int, largest: int) -> float:
    """Return the width of a bar; something is never shown as nothing."""
    return max(micros / largest * _HALF, _NARROWEST) if micros else 0.0


def _percent(width: float) -> str:
    return f"{width:.2f}%"
