"""The rows of a list of calls, as one text: fifty of them, cell by cell in a template, cost as much as the whole rest.

Every text of a row is escaped here, by the standard library, whoever wrote it.
"""

from collections.abc import Sequence
from html import escape

from django import template
from django.utils.safestring import SafeString, mark_safe

from billing_portal.portal.call_list import Row

register = template.Library()

_NEW = '<span class="badge tone-info">new</span>'


@register.simple_tag
def call_rows(calls: Sequence[Row]) -> SafeString:
    """Return the rows; the first has the focus if it is new, as whoever asked for news goes on reading there."""
    return mark_safe("".join(_row(call, is_first=not place) for place, call in enumerate(calls)))  # noqa: S308 - escaped


def _row(call: Row, *, is_first: bool) -> str:
    css, new, focus = ("row-link is-new", _NEW, " autofocus" * is_first) if call.is_new else ("row-link", "", "")
    return (
        f'<tr class="{css}"><td>'
        f'<a class="row-link-target" href="{escape(call.url)}"{focus}>{escape(call.started)}</a>'
        f'<span class="cell-sub mono">{escape(call.call_id)}{new}</span></td>'
        f'<td data-label="Agent">{escape(call.agent)}</td>'
        f'<td data-label="Status"><span class="badge tone-{escape(call.tone)}">{escape(call.status)}</span>'
        f"{_below(call.mark)}</td>"
        f'<td data-label="Duration" class="num">{escape(call.duration)}</td>'
        f'<td data-label="Cost" class="num">{_cost(call)}</td></tr>\n'
    )


def _cost(call: Row) -> str:
    if not call.cost:
        return '<span class="badge tone-warn">Not priced yet</span>'
    return escape(call.cost) + _below(call.state)


def _below(text: str) -> str:
    """Return a smaller line in a cell; nothing without a text."""
    return f'<span class="cell-sub">{escape(text)}</span>' if text else ""
