"""HTML from templates in which every value is escaped unless it is already HTML."""

import html
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from string import Template

_TEMPLATES = Path(__file__).with_name("templates")


class Html(str):
    """Text that is markup already and is inserted as it stands."""

    __slots__ = ()


def escape(value: object) -> Html:
    return value if isinstance(value, Html) else Html(html.escape("" if value is None else str(value)))


def join(parts: Iterable[object], separator: str = "") -> Html:
    return Html(separator.join(escape(part) for part in parts))


def fill(pattern: str, /, **values: object) -> Html:
    """Fill a small inline pattern such as `<b>$name</b>`."""
    return Html(Template(pattern).substitute({name: escape(value) for name, value in values.items()}))


@cache
def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def render(name: str, /, **values: object) -> Html:
    """Fill a template file; a placeholder without a value is a KeyError, so that no page shows `$name`."""
    return fill(_template(name), **values)
