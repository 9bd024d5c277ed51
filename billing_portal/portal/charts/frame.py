"""What charts have in common: scales, places, marks, and the colors of what is stacked."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from usage.models import Component, OutcomeType

_BAR_SHARE = Fraction(72, 100)  # of a column's slot,
_WIDEST_BAR = Fraction(1, 18)  # but of few columns none becomes a block.

# In the order in which they are stacked.
OUTCOMES: tuple[tuple[str, str], ...] = tuple(OutcomeType.choices)
COMPONENTS: tuple[tuple[str, str], ...] = tuple(Component.choices)


@dataclass(frozen=True)
class Bar:
    """One series' part of a column. `y` and `height` are pixels from the top of the plot."""

    css: str
    x: str
    width: str
    y: float
    height: float
    radius: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where a column of so many stands: its slot, and its bars within, as parts of the plot's width."""

    left: str
    width: str
    center: str
    bar_left: str
    bar_width: str
    bar_right: str


@dataclass(frozen=True)
class Mark:
    """What the same column came to in the days that are compared with: a line across it, at `y`."""

    micros: int
    x1: str
    x2: str
    y: float


@dataclass(frozen=True)
class Series:
    key: str
    label: str
    css: str
    micros: int
    text: str = ""


@dataclass(frozen=True)
class Gridline:
    y: float
    label: str


@dataclass(frozen=True)
class Plot:
    """What every chart draws its own into: lines across, the labels of both axes, and what the whole says."""

    gridlines: tuple[Gridline, ...]
    plot_height: int
    axis_width: int
    summary: str

    @property
    def height(self) -> int:
        """The plot and the line of labels below it."""
        return self.plot_height + 26

    @property
    def label_y(self) -> int:
        return self.plot_height + 18


def tick_step(highest: int, *, smallest: int, intervals: int = 4) -> int:
    """Return the least of 1, 2, 2.5 and 5 times a power of ten that covers `highest` in at most `intervals` steps."""
    if highest <= 0:
        return max(smallest, 1_000_000)
    needed = -(-highest // intervals)
    power = 1
    while True:
        for tenths in (10, 20, 25, 50):
            step, rest = divmod(tenths * power, 10)
            if not rest and step >= max(needed, min(smallest, highest)):
                return step
        power *= 10


@lru_cache(maxsize=128)
def places(count: int) -> tuple[Place, ...]:
    """Return where each of `count` columns stands."""
    slot = Fraction(1, count)
    bar = min(slot * _BAR_SHARE, _WIDEST_BAR)
    return tuple(
        Place(
            left=percent(left),
            width=percent(slot),
            center=percent(left + slot / 2),
            bar_left=percent(left + (slot - bar) / 2),
            bar_width=percent(bar),
            bar_right=percent(left + (slot + bar) / 2),
        )
        for left in (slot * index for index in range(count))
    )


def tick_levels(count: int) -> list[str]:
    """Say for every column whether its label shows always ("narrow"), only where there is room ("wide"), or never."""
    wide = next(step for step in (1, 2, 5, 7, 10, 14, 20, 25) if count <= step * 12)
    narrow = wide * next(factor for factor in (1, 2, 3, 4, 5) if count <= wide * factor * 5)
    return ["narrow" if index % narrow == 0 else "wide" if index % wide == 0 else "" for index in range(count)]


def pixels(above: int, top: int, plot_height: int) -> float:
    """Return how far from the plot's upper edge an amount ends that leaves `above` of `top` free."""
    return round(above * plot_height / top, 2)


def percent(part: Fraction) -> str:
    """Return a part of the plot's width: "12.5%"."""
    return f"{number(part * 100)}%"


def number(value: Fraction) -> str:
    """Return a number as SVG wants it, without idle zeros: "12.5"."""
    return f"{float(value):.3f}".rstrip("0").rstrip(".")


def css_class(key: str) -> str:
    """Return the class that colors a series: "series-add-on" for "add_on"."""
    return f"series-{key.replace('_', '-')}"
