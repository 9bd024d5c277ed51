"""What a select offers, as one text: a list of agents may have hundreds."""

from collections.abc import Iterable
from html import escape

from django import template
from django.utils.safestring import SafeString, mark_safe

register = template.Library()


@register.simple_tag
def options(offered: Iterable[tuple[str, str]], chosen: str) -> SafeString:
    """Return an option for each (value, label), the chosen one marked; all texts are escaped."""
    return mark_safe("".join(_option(value, label, value == chosen) for value, label in offered))  # noqa: S308


def _option(value: str, label: str, is_chosen: bool) -> str:
    return f'<option value="{escape(value)}"{" selected" if is_chosen else ""}>{escape(label)}</option>'
