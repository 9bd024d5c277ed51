"""What is alike on page after page of the frame, drawn once a process: most of it stands twice, for desk and phone."""

from collections.abc import Mapping
from functools import lru_cache

from django import template
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag(takes_context=True)
def pages_menu(context: Mapping[str, list[dict[str, object]]]) -> SafeString:
    """Return the links to the pages, as the context's `nav` says; nothing without."""
    return _pages_menu(tuple(tuple(item.items()) for item in context.get("nav") or ()))


@register.simple_tag
def account_links() -> SafeString:
    """Return the links to a person's own pages, the same for everybody."""
    return _account_links()


@lru_cache(maxsize=1024)
def _pages_menu(items: tuple[tuple[tuple[str, object], ...], ...]) -> SafeString:
    return render_to_string("components/shell/nav.html", {"nav": [dict(item) for item in items]})


@lru_cache(maxsize=1)
def _account_links() -> SafeString:
    return render_to_string("components/shell/account_links.html")
