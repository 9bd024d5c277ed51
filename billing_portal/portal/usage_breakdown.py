"""What some days came to by one dimension, beside the days compared with: a table, a chart and its shares."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from accounts.models import Organization
from billing_portal.portal import formats, usage_subjects
from billing_portal.portal.charts import frame, share_bar, stacked
from billing_portal.portal.date_ranges import Days
from billing_portal.portal.usage_subjects import Subject
from usage import rollups
from usage.breakdowns import Compared, Part

_ROWS = 100
# The colors of components are told apart by everybody; other values borrow them, the dearest first.
_COLORS = [key for key, _ in frame.COMPONENTS][: usage_subjects.MOST_TOLD]
_OTHERS = "others"


class Row(NamedTuple):
    """One value's row of the table, formatted."""

    label: str
    url: str
    note: str
    calls: str
    minutes: str
    own: str
    amount: str
    share: str
    before: str
    change: str


@dataclass(frozen=True)
class Breakdown:
    """All that a page shows of one subject, `noun` within a sentence. `total` is the table's last row."""

    label: str
    noun: str
    rows: list[Row]
    total: Row
    has_own: bool
    has_before: bool
    chart: stacked.StackedChart
    shares: tuple[share_bar.Share, ...]
    sums: rollups.Total
    sums_before: rollups.Total | None


def of(
    organization: Organization,
    subject: Subject,
    *,
    days: Days,
    before: Days | None,
    address: Callable[[dict[str, str]], str],
) -> Breakdown:
    """Return the breakdown of the days, and of `before`, if any; `address` leads to the list with some filters."""
    spans = [(each.starts_on, each.ends_on) for each in (days, before) if each]
    totals = rollups.totals_by_day(organization.pk, *spans)
    found = subject.compared(days, before, totals)
    parts_before = {part.value: part for part in found.before}
    values = {part.value for part in found.parts}
    gone = [
        Part(part.value, "", calls=0, duration_ms=0, micros=0, own_micros=0)
        for part in found.before
        if part.value not in values
    ]
    parts = subject.labelled([*found.parts, *gone])
    sums, *sums_of_before = (rollups.sum_of(totals, *span) for span in spans)
    sums_before = sums_of_before[0] if sums_of_before else None
    table = _Table(subject, organization.currency, sums, parts_before, address, has_before=before is not None)
    by_day_before = [totals[on].micros if on in totals else 0 for on in before.every] if before else None
    chart = _chart(organization.currency, subject, found, parts, days=days, before=by_day_before)
    return Breakdown(
        label=subject.label,
        noun=subject.label if subject.key else subject.label.lower(),
        rows=table.rows(parts),
        total=table.total(sums_before),
        has_own=subject.has_own,
        has_before=table.has_before,
        chart=chart,
        shares=share_bar.shares((part.key, part.label, part.micros) for part in chart.series),
        sums=sums,
        sums_before=sums_before,
    )


@dataclass(frozen=True)
class _Table:
    subject: Subject
    currency: str
    sums: rollups.Total
    before: dict[str | None, Part]
    address: Callable[[dict[str, str]], str]
    has_before: bool

    def rows(self, parts: Sequence[Part]) -> list[Row]:
        """Return a row a part; what is too much for a page is one row together."""
        shown, rest = [*parts[:_ROWS]], parts[_ROWS:]
        befores = [self.before.get(part.value) for part in shown]
        if rest:
            shown.append(_sum(f"{len(rest)} more", rest))
            befores.append(_sum("", [self.before[part.value] for part in rest if part.value in self.before]))
        percentages = share_bar.percentages([part.micros for part in shown])
        return [self._row(*each) for each in zip(shown, befores, percentages, strict=True)]

    def total(self, before: rollups.Total | None) -> Row:
        sums = self.sums
        whole = Part(None, "Total", sums.calls, sums.duration_ms, sums.micros)
        was = Part(None, "", before.calls, before.duration_ms, before.micros) if before else None
        return self._row(whole, was, formats.percent(sums.micros, sums.micros))._replace(own="")

    def _row(self, part: Part, before: Part | None, share: str) -> Row:
        was = before.micros if before else 0
        filters = self.subject.filters(part.value) if part.value is not None and part.calls else {}
        return Row(
            label=part.label,
            url=self.address(filters) if filters else "",
            note=part.value or "" if filters and part.label != part.value else "",
            calls=formats.quantity(part.calls),
            minutes=formats.minutes(part.duration_ms),
            own=formats.money(part.own_micros or 0, self.currency) if self.subject.has_own else "",
            amount=formats.money(part.micros, self.currency),
            share=share,
            before=formats.money(was, self.currency) if self.has_before else "",
            change=formats.change(part.micros, was) if self.has_before else "",
        )


def _sum(label: str, parts: Sequence[Part]) -> Part:
    return Part(
        None,
        label,
        sum(part.calls for part in parts),
        sum(part.duration_ms for part in parts),
        sum(part.micros for part in parts),
        sum(part.own_micros or 0 for part in parts),
    )


def _chart(
    currency: str, subject: Subject, found: Compared, parts: Sequence[Part], *, days: Days, before: list[int] | None
) -> stacked.StackedChart:
    """Return the days' columns: by component as everywhere, otherwise the dearest values and all others together."""
    colors = _colors(subject, found, parts)
    amounts = {
        (on, colors[value][0] if value is not None else _OTHERS): micros for (on, value), micros in found.by_day.items()
    }
    series = [*colors.values(), (_OTHERS, "All others")]
    return stacked.by_day(
        amounts,
        starts_on=days.starts_on,
        ends_on=days.ends_on,
        currency=currency,
        series=frame.COMPONENTS if subject.is_component else series,
        before=before,
    )


def _colors(subject: Subject, found: Compared, parts: Sequence[Part]) -> dict[str, tuple[str, str]]:
    """Return the series, (key, label), of each value that has a color."""
    if subject.is_component:
        return {key: (key, label) for key, label in frame.COMPONENTS}
    labels = {part.value: part.label for part in parts}
    return {value: (color, labels[value]) for value, color in zip(found.told, _COLORS, strict=False)}
