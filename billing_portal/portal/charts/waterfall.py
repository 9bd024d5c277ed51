"""From one amount to another, step by step, as geometry: rows whose bars begin where the last one ended.

As `charts`, pure functions of integer micros. Places and widths are percentages, so that one drawing fits a phone and a
desk; each row is drawn beside its own line of a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from billing_portal.portal import formats
from billing_portal.portal.charts import frame

# Totals that dwarf the changes are cut, so that the changes take about two thirds of the width.
_CUT_FROM = Fraction(35, 100)
_NARROWEST = Fraction(1, 200)


@dataclass(frozen=True)
class Step:
    """What is to be drawn: a total (`is_total`), or a change with its sign."""

    key: str
    label: str
    detail: str
    micros: int
    is_total: bool = False
    href: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the waterfall. `kind` is total, more, less or same; `joint` is where the next bar begins."""

    key: str
    label: str
    detail: str
    text: str
    kind: str
    left: str
    width: str
    joint: str
    href: str


@dataclass(frozen=True)
class Waterfall:
    """All that a template needs; `cut` says where the bars begin if that is not at nothing."""

    rows: tuple[Row, ...]
    cut: str


def of(before: Step, changes: Sequence[Step], after: Step, *, currency: str) -> Waterfall:
    """Return the rows from a total to another. The changes must lead from the one to the other: ValueError if not.

    What is shown is rounded once a level, and a change is the difference of two levels as shown, so that also what a
    reader adds up on paper agrees.
    """
    levels = [before.micros]
    for each in changes:
        levels.append(levels[-1] + each.micros)
    if levels[-1] != after.micros:
        raise ValueError(f"The changes lead to {levels[-1]} micros, not to {after.micros}.")
    shown = [_shown(level, currency) for level in levels]
    floor = _floor(shown, currency)
    span = max(max(*shown, floor, 0) - floor, 1)
    base = max(floor, 0)
    rows = [_row(before, base, shown[0], floor, span, currency)]
    for each, (start, end) in zip(changes, pairwise(shown), strict=True):
        rows.append(_row(each, start, end, floor, span, currency))
    rows.append(_row(after, base, shown[-1], floor, span, currency))
    return Waterfall(tuple(rows), formats.money(floor, currency) if floor > 0 else "")


def shown_changes(before_micros: int, changes: Sequence[int], *, currency: str) -> list[int]:
    """Return the changes as they are shown: differences of levels in whole minor units."""
    levels = [before_micros]
    for micros in changes:
        levels.append(levels[-1] + micros)
    shown = [_shown(level, currency) for level in levels]
    return [end - start for start, end in pairwise(shown)]


def _shown(micros: int, currency: str) -> int:
    """Return an amount in whole minor units, halves away from zero as `formats.money` has it; still in micros."""
    minor: int = 10 ** (6 - formats.minor_digits(currency))
    sign = -1 if micros < 0 else 1
    return sign * ((abs(micros) + minor // 2) // minor) * minor


def _floor(levels: Sequence[int], currency: str) -> int:
    """Return where the bars begin: at nothing, below it where a level is, above it where all levels are close."""
    low, high = min(levels), max(levels)
    if low <= 0:
        return low
    if high - low >= high * _CUT_FROM or high == low:
        return 0
    step = frame.tick_step(high - low, smallest=10 ** (6 - formats.minor_digits(currency)))
    return max(0, (low - (high - low) // 2) // step * step)


def _row(step: Step, start: int, end: int, floor: int, span: int, currency: str) -> Row:
    low, high = min(start, end), max(start, end)
    width = Fraction(high - low, span)
    if width and width < _NARROWEST:
        width = _NARROWEST
    left = min(Fraction(low - floor, span), 1 - width)
    if step.is_total:
        kind, text = "total", formats.money(end, currency)
    else:
        kind = "more" if end > start else "less" if end < start else "same"
        text = formats.money_change(end - start, currency)
    return Row(
        key=step.key,
        label=step.label,
        detail=step.detail,
        text=text,
        kind=kind,
        left=frame.percent(left),
        width=frame.percent(width),
        joint=frame.percent(Fraction(end - floor, span)),
        href=step.href,
    )
