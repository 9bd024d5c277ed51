"""A bucket's burn curve as geometry: what was left day by day, an even pace over the term, and how it may go on.

As `balance_chart`, a pure function; vertical places are pixels, horizontal ones days in the areas' own frame, which is
stretched to the plot, or percentages for what keeps its shape.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

from billing_portal.ledger.runway import Runway
from billing_portal.portal import formats
from billing_portal.portal.charts import frame

PLOT_HEIGHT = 200
_MOST_COLUMNS = 60

Height = Callable[[float], float]


@dataclass(frozen=True)
class Span:
    """A day or a run of days up to today: where it stands, and what was left at its end beside an even pace."""

    label: str
    summary: str
    left: str
    width: str
    center: str
    left_units: int
    even_units: int
    tick: str
    tick_label: str
    bars: tuple[frame.Bar, ...] = ()
    before: frame.Mark | None = None


@dataclass(frozen=True)
class BucketChart(frame.Plot):
    """All a template needs to draw the curve, the pace, the range ahead, the axes and the table."""

    noun: str
    days: int
    area: str
    edge: str
    even: str
    ahead: str
    band: str
    columns: tuple[Span, ...]
    ticks: tuple[tuple[str, str, str], ...]


def of_term(
    moved: Mapping[date, int],
    *,
    noun: str,
    size: int,
    starts_on: date,
    ends_on: date,
    today: date,
    runway: Runway | None = None,
) -> BucketChart:
    """Return the curve of a term, from `starts_on` to `ends_on`, up to the end of today or of the term.

    `moved` are the units that went out and came back by day, negative when they went.
    """
    days = max(1, (ends_on - starts_on).days)
    shown = min(max(0, (min(today, ends_on) - starts_on).days + 1), days)
    levels = _levels(moved, size=size, starts_on=starts_on, shown=shown)
    step = frame.tick_step(size, smallest=1, intervals=4)
    top = -(-size // step) * step

    def y(units: float) -> float:
        return round((top - units) * PLOT_HEIGHT / top, 2)

    even = [max(0, size - -(-size * number // days)) for number in range(days + 1)]
    edge = f"M0 {y(levels[0]):g}" + "".join(f"H{number}V{y(units):g}" for number, units in enumerate(levels[1:], 1))
    now = levels[-1]
    gridlines = tuple(frame.Gridline(y(units), formats.quantity(units)) for units in range(0, top + 1, step))
    columns = _columns(levels, even, starts_on=starts_on, shown=shown, days=days, noun=noun)
    return BucketChart(
        noun=noun,
        days=days,
        area=f"{edge}V{PLOT_HEIGHT}H0Z",
        edge=edge,
        even=f"M0 {y(size):g}L{days} {y(0):g}",
        ahead=_ahead(now, runway.pace, shown, days, y) if runway else "",
        band=_band(now, runway, shown, days, y) if runway else "",
        columns=columns,
        ticks=_month_ticks(starts_on, days),
        gridlines=gridlines,
        plot_height=PLOT_HEIGHT,
        axis_width=max(len(line.label) for line in gridlines) * 7 + 10,
        summary=f"{formats.quantity(now)} of {formats.quantity(size)} {noun} left, "
        f"{formats.quantity(even[shown])} at an even pace",
    )


def _levels(moved: Mapping[date, int], *, size: int, starts_on: date, shown: int) -> list[int]:
    """Return what there was at the beginning, and at the end of each day shown."""
    levels = [size]
    for number in range(shown):
        levels.append(levels[-1] + moved.get(starts_on + timedelta(days=number), 0))
    return levels


def _columns(
    levels: list[int], even: list[int], *, starts_on: date, shown: int, days: int, noun: str
) -> tuple[Span, ...]:
    run = next(step for step in (1, 7, 14, 28, 56) if -(-shown // step) <= _MOST_COLUMNS)
    found = []
    for first in range(0, shown, run):
        last = min(first + run, shown)
        label = formats.long_day(starts_on + timedelta(days=last - 1))
        slot = Fraction(last - first, days)
        found.append(
            Span(
                label=label,
                summary=f"{label}: {formats.quantity(levels[last])} {noun} left, "
                f"{formats.quantity(even[last])} at an even pace",
                left=frame.percent(Fraction(first, days)),
                width=frame.percent(slot),
                center=frame.percent(Fraction(first, days) + slot / 2),
                left_units=levels[last],
                even_units=even[last],
                tick="",
                tick_label="",
            )
        )
    return tuple(found)


def _ahead(now: int, pace: Fraction, shown: int, days: int, y: Height) -> str:
    """Return the line on which it goes on at a pace, to the end of the units or of the term."""
    return "M" + "L".join(f"{x:g} {y(units):g}" for x, units in _points(now, pace, shown, days))


def _band(now: int, runway: Runway, shown: int, days: int, y: Height) -> str:
    """Return the area between the fastest and the slowest pace."""
    fast, slow = (_points(now, pace, shown, days) for pace in (runway.fastest, runway.slowest))
    if fast[-1][0] < days:
        fast.append((float(days), 0.0))
    if slow[-1][0] < days:
        slow.append((float(days), 0.0))
    return "M" + "L".join(f"{x:g} {y(units):g}" for x, units in [*fast, *reversed(slow)]) + "Z"


def _points(now: int, pace: Fraction, shown: int, days: int) -> list[tuple[float, float]]:
    start = (float(shown), float(now))
    rest = days - shown
    if pace and Fraction(now) / pace < rest:
        return [start, (round(shown + float(now / pace), 2), 0.0)]
    return [start, (float(days), round(float(max(Fraction(0), now - pace * rest)), 2))]


def _month_ticks(starts_on: date, days: int) -> tuple[tuple[str, str, str], ...]:
    """Return where months begin: the place, the label, and whether it shows always or only where there is room."""
    firsts = [number for number in range(1, days) if (starts_on + timedelta(days=number)).day == 1]
    wide = max(1, -(-len(firsts) // 12))
    narrow = wide * max(1, -(-len(firsts) // (wide * 4)))
    return tuple(
        (
            frame.percent(Fraction(number, days)),
            formats.short_month(starts_on + timedelta(days=number)),
            "narrow" if index % narrow == 0 else "wide",
        )
        for index, number in enumerate(firsts)
        if index % wide == 0 and days * 3 // 100 < number < days * 97 // 100
    )
