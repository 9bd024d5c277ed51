"""A balance over time as geometry: how much there was at the end of each day, and of what.

As `charts`, a pure function of integer micros; vertical places are pixels, horizontal ones percentages, or days inside
the areas' own frame, which is stretched to the plot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from billing_portal.portal import formats
from billing_portal.portal.charts import frame

PLOT_HEIGHT = 176


@dataclass(frozen=True)
class Area:
    """One series' part of the balance, as the path of a stepped area in days × pixels."""

    css: str
    path: str


@dataclass(frozen=True)
class Day:
    """Where a day's column stands, what it says, and what was there at its end, in the order of the series."""

    label: str
    summary: str
    left: str
    width: str
    center: str
    amounts: tuple[int, ...]
    micros: int
    tick: str
    tick_label: str
    href: str = ""
    bars: tuple[frame.Bar, ...] = ()
    before: frame.Mark | None = None


@dataclass(frozen=True)
class BalanceChart(frame.Plot):
    """All a template needs to draw the areas, their axes, their legend and their table."""

    currency: str
    series: tuple[frame.Series, ...]
    columns: tuple[Day, ...]
    areas: tuple[Area, ...]
    line: str

    @property
    def is_empty(self) -> bool:
        return not any(column.micros for column in self.columns)


def by_day(
    amounts: Mapping[tuple[date, str], int],
    *,
    starts_on: date,
    ends_on: date,
    currency: str,
    series: Sequence[tuple[str, str]],
    plot_height: int = PLOT_HEIGHT,
) -> BalanceChart:
    """Return the balance at the end of every day from `starts_on` to `ends_on`, stacked in the order of `series`.

    `amounts` maps (day, series key) to micros that are not negative; only series that ever hold anything are shown.
    """
    count = (ends_on - starts_on).days + 1
    days = [starts_on + timedelta(days=index) for index in range(count)]
    held = [(key, label) for key, label in series if any(amounts.get((day, key)) for day in days)]
    stacks = [[amounts.get((day, key), 0) for key, _ in held] for day in days]
    highest = max((sum(stack) for stack in stacks), default=0)
    step = frame.tick_step(highest, smallest=10 ** (6 - formats.minor_digits(currency)), intervals=3)
    top = max(1, -(-highest // step)) * step
    labelled = frame.tick_levels(count)
    gridlines = tuple(
        frame.Gridline(
            y=frame.pixels(top - micros, top, plot_height),
            label=formats.money_axis(micros, currency, step_micros=step),
        )
        for micros in range(0, top + 1, step)
    )
    edges = [_edge(stacks, number, top=top, plot_height=plot_height) for number in range(len(held) + 1)]
    shown = [
        frame.Series(key, label, frame.css_class(key), stacks[-1][number]) for number, (key, label) in enumerate(held)
    ]
    return BalanceChart(
        currency=currency,
        series=tuple(shown),
        columns=tuple(
            _day(day, stack, index=index, count=count, shown=shown, currency=currency, tick=labelled[index])
            for index, (day, stack) in enumerate(zip(days, stacks, strict=True))
        ),
        areas=tuple(Area(part.css, _area(edges[number + 1], edges[number])) for number, part in enumerate(shown)),
        line=_stepped(edges[-1]),
        gridlines=gridlines,
        plot_height=plot_height,
        axis_width=max(len(line.label) for line in gridlines) * 7 + 10,
        summary=f"{formats.money(sum(stacks[-1]), currency)} on {formats.day(ends_on)}, "
        f"{formats.money(sum(stacks[0]), currency)} on {formats.day(starts_on)}",
    )


def _edge(stacks: Sequence[Sequence[int]], number: int, *, top: int, plot_height: int) -> list[float]:
    """Return the height at which the first `number` series end, day by day, in pixels from above."""
    return [frame.pixels(top - sum(stack[:number]), top, plot_height) for stack in stacks]


def _stepped(edge: Sequence[float]) -> str:
    """Return a path along an edge: level through each day, then up or down to the next."""
    steps = "".join(f"V{y:g}H{index + 1}" for index, y in enumerate(edge))
    return f"M0 {edge[0]:g}{steps}"


def _area(above: Sequence[float], below: Sequence[float]) -> str:
    """Return the closed path between two edges: forward along the upper, back along the lower."""
    back = "".join(f"V{below[index]:g}H{index}" for index in reversed(range(len(below))))
    return f"{_stepped(above)}{back}Z"


def _day(
    day: date, stack: Sequence[int], *, index: int, count: int, shown: Sequence[frame.Series], currency: str, tick: str
) -> Day:
    place = frame.places(count)[index]
    label, total = formats.long_day(day), sum(stack)
    parts = ", ".join(
        f"{part.label} {formats.money(micros, currency)}" for part, micros in zip(shown, stack, strict=True) if micros
    )
    return Day(
        label=label,
        summary=f"{label}: {formats.money(total, currency)}" + (f". {parts}" if parts else ""),
        left=place.left,
        width=place.width,
        center=place.center,
        amounts=tuple(stack),
        micros=total,
        tick=tick,
        tick_label=formats.short_day(day) if tick else "",
    )
