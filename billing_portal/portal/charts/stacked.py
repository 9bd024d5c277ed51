"""From amounts to geometry: pure functions whose results the chart components draw as SVG.

Horizontal places and widths are percentages of the plot and vertical ones are pixels, so that one drawing fits a phone
and a desk with its text at full size, and no inline style is needed. Amounts are integer micros throughout.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from functools import lru_cache, partial

from babel import Locale

from billing_portal.portal import formats
from usage.shares import spread

MAX_COLUMNS = 100
PLOT_HEIGHT = 208
_GAP_PX = 1.5
_MIN_BAR_PX = 1.0
_BAR_SHARE = Fraction(72, 100)  # of a column's slot,
_WIDEST_BAR = Fraction(1, 18)  # but of few columns none becomes a block.

# The types of outcomes in the order they are stacked, with the labels of usage.models.OutcomeType.
OUTCOMES: tuple[tuple[str, str], ...] = (
    ("resolution", "Resolutions"),
    ("procedure_handoff", "Procedure handoffs"),
    ("disqualification", "Disqualifications"),
    ("qualification", "Qualifications"),
)
# The priced components in the order they are stacked, with the labels of usage.models.Component.
COMPONENTS: tuple[tuple[str, str], ...] = (
    ("platform", "Platform"),
    ("voice", "Voice engine"),
    ("llm", "Language model"),
    ("telephony", "Telephony"),
    ("add_on", "Add-ons"),
    ("per_call", "Per-call items"),
    ("token_surcharge", "Token surcharge"),
)


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
class Column:
    """A day, or a run of days: where it stands, what it holds (in the order of the chart's series), what it says.

    `texts` are the cells of its row in the table, the days compared with as the last, and `total` is its sum.
    """

    starts_on: date
    ends_on: date
    label: str
    summary: str
    left: str
    width: str
    center: str
    bars: tuple[Bar, ...]
    amounts: tuple[int, ...]
    micros: int
    href: str
    tick: str
    tick_label: str
    texts: tuple[str, ...]
    total: str
    before: Mark | None = None


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
class StackedChart:
    """All a template needs to draw the columns, their axes, their legend and their table."""

    currency: str
    series: tuple[Series, ...]
    columns: tuple[Column, ...]
    gridlines: tuple[Gridline, ...]
    micros: int
    plot_height: int
    axis_width: int
    days_per_column: int
    summary: str
    before_micros: int | None = None
    text: str = ""
    before_text: str = ""

    @property
    def height(self) -> int:
        """The plot and the line of labels below it."""
        return self.plot_height + 26

    @property
    def label_y(self) -> int:
        return self.plot_height + 18

    @property
    def is_empty(self) -> bool:
        return self.micros == 0


@dataclass(frozen=True)
class Share:
    key: str
    label: str
    css: str
    micros: int
    percent: str
    left: str
    width: str
    href: str


@dataclass(frozen=True)
class Sparkline:
    width: int
    height: int
    line: str
    area: str


def stacked_by_day(
    amounts: Mapping[tuple[date, str], int],
    *,
    starts_on: date,
    ends_on: date,
    currency: str,
    series: Sequence[tuple[str, str]] = COMPONENTS,
    href: Callable[[date, date], str] | None = None,
    plot_height: int = PLOT_HEIGHT,
    before: Sequence[int] | None = None,
) -> StackedChart:
    """Return columns for every day from `starts_on` to `ends_on`, both included, in whole weeks when they are too many.

    `amounts` maps (day, series key) to micros; days outside and keys unknown are an error, since a chart that drops
    money is worse than none. Only series that hold anything get a color, a legend and a column of the table.
    A negative amount is shown in the table and in the totals; it has no bar. `href` makes a link of each column.
    `before` are the micros of the days compared with, the first beside the first; further days than are shown count
    in the last column, so that their sum is theirs. Without a currency the amounts are no money but counts.
    """
    spans = _spans(starts_on, ends_on)
    days_per_column = (spans[0][1] - spans[0][0]).days + 1
    sums = _sum_by_column(amounts, spans=spans, keys=[key for key, _ in series], days_per_column=days_per_column)
    totals = {key: sum(column[key] for column in sums) for key, _ in series}
    shown = [
        Series(key, label, css_class(key), totals[key], text_of(totals[key], currency))
        for key, label in series
        if any(column[key] for column in sums)
    ]
    befores = None if before is None else _before_by_column(before, len(spans), days_per_column)
    highest = max([sum(max(value, 0) for value in column.values()) for column in sums] + (befores or []), default=0)
    step = tick_step(highest, smallest=10 ** (6 - formats.minor_digits(currency)) if currency else 1)
    intervals = max(1, -(-highest // step))
    top = intervals * step
    gridlines = tuple(
        Gridline(
            y=pixels(top - index * step, top, plot_height),
            label=formats.money_axis(index * step, currency, step_micros=step)
            if currency
            else formats.quantity(index * step),
        )
        for index in range(intervals + 1)
    )
    labelled, locale = tick_levels(len(spans)), formats.active_locale()
    columns = tuple(
        _column(
            place,
            span=span,
            sums=sums[index],
            shown=shown,
            top=top,
            plot_height=plot_height,
            currency=currency,
            locale=locale,
            tick=labelled[index],
            href=href(*span) if href else "",
            before=None if befores is None else befores[index],
        )
        for index, (span, place) in enumerate(zip(spans, places(len(spans)), strict=True))
    )
    total = sum(column.micros for column in columns)
    return StackedChart(
        currency=currency,
        series=tuple(shown),
        columns=columns,
        gridlines=gridlines,
        micros=total,
        plot_height=plot_height,
        axis_width=max(len(line.label) for line in gridlines) * 7 + 10,
        days_per_column=days_per_column,
        summary=f"{text_of(total, currency)} from {formats.day(starts_on)} to {formats.day(ends_on)}",
        before_micros=None if befores is None else sum(befores),
        text=text_of(total, currency),
        before_text="" if befores is None else text_of(sum(befores), currency),
    )


def text_of(amount: int, currency: str, *, locale: Locale | None = None) -> str:
    """Return an amount of a chart in words: money, or a count where there is no currency."""
    return formats.money(amount, currency, locale=locale) if currency else formats.quantity(amount, locale=locale)


def shares(
    totals: Iterable[tuple[str, str, int]], *, href: Callable[[str], str] | None = None, digits: int = 1
) -> tuple[Share, ...]:
    """Return each (key, label, micros) as its part of the whole, largest first; the percentages add up to 100.

    Only what is above zero takes part. The odd tenths go to the largest remainders.
    """
    rows = sorted(((key, label, micros) for key, label, micros in totals if micros > 0), key=lambda row: -row[2])
    amounts = [micros for _, _, micros in rows]
    whole = sum(amounts)
    before = 0
    result = []
    for (key, label, micros), part in zip(rows, percentages(amounts, digits=digits), strict=True):
        result.append(
            Share(
                key=key,
                label=label,
                css=css_class(key),
                micros=micros,
                percent=part,
                left=percent(Fraction(before, whole)),
                width=percent(Fraction(micros, whole)),
                href=href(key) if href else "",
            )
        )
        before += micros
    return tuple(result)


def percentages(amounts: Sequence[int], *, digits: int = 1) -> list[str]:
    """Return amounts as percentages of their sum that add up to 100; what is not above zero has no part in it."""
    scale = 100 * 10**digits
    weights = [max(amount, 0) for amount in amounts]
    if not any(weights):
        return [formats.percent(0, 0)] * len(amounts)
    return [formats.percent(part, scale, digits=digits) for part in spread(scale, weights)]


def sparkline(values: Sequence[int], *, width: int = 80, height: int = 24) -> Sparkline:
    """Return the path of a small line through `values`, the last at the right edge, and of the area below it.

    The base is zero, so that a flat line high up reads as steady and not as nothing.
    """
    top = max([*values, 1])
    step = Fraction(width, max(len(values) - 1, 1))
    inset = 2
    points = [
        f"{_number(step * index)} {_number(height - inset - Fraction(max(value, 0), top) * (height - 2 * inset))}"
        for index, value in enumerate(values)
    ]
    if len(points) == 1:
        points.append(f"{width} {points[0].split()[1]}")
    line = "M" + "L".join(points) if points else ""
    area = f"{line}L{width} {height}L0 {height}Z" if points else ""
    return Sparkline(width=width, height=height, line=line, area=area)


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


def css_class(key: str) -> str:
    """Return the class that colors a series: "series-add-on" for "add_on"."""
    return f"series-{key.replace('_', '-')}"


def _spans(starts_on: date, ends_on: date) -> list[tuple[date, date]]:
    days = (ends_on - starts_on).days + 1
    if days < 1:
        raise ValueError(f"{ends_on} is before {starts_on}")
    size = 1 if days <= MAX_COLUMNS else 7 * -(-days // (7 * MAX_COLUMNS))
    return [
        (starts_on + timedelta(days=first), starts_on + timedelta(days=min(first + size, days) - 1))
        for first in range(0, days, size)
    ]


def _sum_by_column(
    amounts: Mapping[tuple[date, str], int],
    *,
    spans: Sequence[tuple[date, date]],
    keys: Sequence[str],
    days_per_column: int,
) -> list[dict[str, int]]:
    sums = [dict.fromkeys(keys, 0) for _ in spans]
    for (on, key), micros in amounts.items():
        index = (on - spans[0][0]).days // days_per_column
        if not 0 <= index < len(spans) or on > spans[-1][1]:
            raise ValueError(f"{on} is outside of the chart")
        if key not in sums[index]:
            raise ValueError(f"no series is called {key!r}")
        sums[index][key] += micros
    return sums


def _before_by_column(before: Sequence[int], columns: int, days_per_column: int) -> list[int]:
    sums = [0] * columns
    for index, micros in enumerate(before):
        sums[min(index // days_per_column, columns - 1)] += micros
    return sums


def _column(
    place: Place,
    *,
    span: tuple[date, date],
    sums: Mapping[str, int],
    shown: Sequence[Series],
    top: int,
    plot_height: int,
    currency: str,
    locale: Locale,
    tick: str,
    href: str,
    before: int | None,
) -> Column:
    below = 0
    bars = []
    for part in shown:
        micros = sums[part.key]
        if micros <= 0:
            continue
        height = max(micros * plot_height / top - _GAP_PX, _MIN_BAR_PX)
        bottom = pixels(top - below, top, plot_height)
        bars.append(
            Bar(
                css=part.css,
                x=place.bar_left,
                width=place.bar_width,
                y=round(bottom - height, 2),
                height=round(height, 2),
                radius=round(min(2.0, height / 2), 2),
            )
        )
        below += micros
    said = partial(text_of, currency=currency, locale=locale)
    label = formats.long_day(span[0], locale=locale) if span[0] == span[1] else formats.period(*span, locale=locale)
    micros = sum(sums.values())
    total = said(micros)
    mark = None
    if before is not None:
        mark = Mark(before, place.bar_left, place.bar_right, pixels(top - before, top, plot_height))
    amounts = tuple(sums[part.key] for part in shown)
    texts = [said(amount) if amount else "–" for amount in amounts]
    parts = ", ".join(f"{part.label} {text}" for part, text in zip(shown, texts, strict=True) if text != "–")
    if before is not None:
        texts.append(said(before))
    return Column(
        starts_on=span[0],
        ends_on=span[1],
        label=label,
        summary=f"{label}: {total}"
        + (f". {parts}" if parts else "")
        + (f". Before: {said(before)}" if before is not None else ""),
        left=place.left,
        width=place.width,
        center=place.center,
        bars=tuple(bars),
        amounts=amounts,
        micros=micros,
        href=href,
        tick=tick,
        tick_label=formats.short_day(span[0], locale=locale) if tick else "",
        texts=tuple(texts),
        total=total,
        before=mark,
    )


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
    return f"{_number(part * 100)}%"


def _number(value: Fraction) -> str:
    return f"{float(value):.3f}".rstrip("0").rstrip(".")
