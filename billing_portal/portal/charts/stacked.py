"""Columns of stacked parts by day: what was used, or what was decided, and what the days before came to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

from babel import Locale

from billing_portal.portal import formats
from billing_portal.portal.charts.frame import (
    COMPONENTS,
    Bar,
    Gridline,
    Mark,
    Place,
    Plot,
    Series,
    css_class,
    pixels,
    places,
    tick_levels,
    tick_step,
)

MAX_COLUMNS = 100
PLOT_HEIGHT = 208
_GAP_PX = 1.5
_MIN_BAR_PX = 1.0


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
class StackedChart(Plot):
    """All a template needs to draw the columns, their axes, their legend and their table."""

    currency: str
    series: tuple[Series, ...]
    columns: tuple[Column, ...]
    micros: int
    days_per_column: int
    before_micros: int | None = None
    text: str = ""
    before_text: str = ""

    @property
    def is_empty(self) -> bool:
        return self.micros == 0


def by_day(
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
