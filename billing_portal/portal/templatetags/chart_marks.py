"""What a chart draws by the hundred, as one text: a variable of a template, or a `format_html`, costs more than a bar.

Only what people wrote is escaped, by the standard library; numbers and classes are the chart's own.
"""

from html import escape

from django import template
from django.utils.safestring import SafeString, mark_safe

from billing_portal.portal.charts.balance_chart import Day
from billing_portal.portal.charts.stacked import Column, StackedChart

register = template.Library()


@register.simple_tag
def bars(column: Column | Day, height: int) -> SafeString:
    """Return a column's bars and the mark of the days compared with, behind what it says and what feels the pointer."""
    return mark_safe(_bars(column, height))  # noqa: S308 - `_bars` escapes


@register.simple_tag
def columns(chart: StackedChart) -> SafeString:
    """Return all columns, each a link if it leads anywhere and otherwise something that can be read out."""
    return mark_safe("".join(_column(column, chart.plot_height) for column in chart.columns))  # noqa: S308


@register.simple_tag
def rows(chart: StackedChart) -> SafeString:
    """Return the columns as rows of a table."""
    return mark_safe("".join(map(_row, chart.columns)))  # noqa: S308 - `_row` escapes


def _column(column: Column, height: int) -> str:
    says = f'class="chart-column" aria-label="{escape(column.summary)}"'
    if column.href:
        return f'<a {says} href="{escape(column.href)}">{_bars(column, height)}</a>'
    return f'<g {says} role="img" tabindex="0">{_bars(column, height)}</g>'


def _bars(column: Column | Day, height: int) -> str:
    drawn = "".join(
        f'<rect class="chart-bar {bar.css}" x="{bar.x}" width="{bar.width}" y="{bar.y}" height="{bar.height}" '
        f'rx="{bar.radius}"/>'
        for bar in column.bars
    )
    if mark := column.before:
        drawn += f'<line class="chart-before" x1="{mark.x1}" x2="{mark.x2}" y1="{mark.y}" y2="{mark.y}"/>'
    hit = f'<rect class="chart-hit" x="{column.left}" width="{column.width}" y="0" height="{height}"/>'
    return f"<title>{escape(column.summary)}</title>{hit}{drawn}"


def _row(column: Column) -> str:
    amounts = "".join(f'<td class="num">{escape(text)}</td>' for text in column.texts)
    head = f'<th scope="row">{escape(column.label)}</th>'
    return f'<tr>{head}{amounts}<td class="num strong">{escape(column.total)}</td></tr>'
