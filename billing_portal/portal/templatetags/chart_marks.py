"""What a chart draws by the hundred, each column as one text: a variable of a template costs more than a bar."""

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from billing_portal.portal.balance_chart import Day
from billing_portal.portal.charts import Column

register = template.Library()
_BEFORE = '<line class="chart-before" x1="{}" x2="{}" y1="{}" y2="{}"/>'
_BAR = '<rect class="chart-bar {}" x="{}" width="{}" y="{}" height="{}" rx="{}"/>'


@register.simple_tag
def bars(column: Column | Day, height: int) -> SafeString:
    """Return a column's bars and the mark of the days compared with, behind what it says and what feels the pointer."""
    drawn = format_html_join(
        "", _BAR, ((bar.css, bar.x, bar.width, bar.y, bar.height, bar.radius) for bar in column.bars)
    )
    mark = column.before
    before = format_html(_BEFORE, mark.x1, mark.x2, mark.y, mark.y) if mark else ""
    hit = '<title>{}</title><rect class="chart-hit" x="{}" width="{}" y="0" height="{}"/>{}{}'
    return format_html(hit, column.summary, column.left, column.width, height, drawn, before)


@register.simple_tag
def cells(column: Column) -> SafeString:
    """Return the cells of a column's row in the table, but its head."""
    parts = format_html_join("", '<td class="num">{}</td>', ((text,) for text in column.texts))
    return format_html('{}<td class="num strong">{}</td>', parts, column.total)
