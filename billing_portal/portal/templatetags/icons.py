"""Icons as `{% lucide %}` draws them, each drawn once a process: a page has dozens, and drawing is copying XML."""

from functools import lru_cache

from django import template
from lucide.templatetags import lucide as lucide_tags

register = template.Library()


@register.simple_tag
def lucide(name: str, *, size: int | None = 24, **attributes: object) -> str:
    return _drawn(str(name), size, tuple((key, str(value)) for key, value in attributes.items()))


@lru_cache(maxsize=1024)
def _drawn(name: str, size: int | None, attributes: tuple[tuple[str, str], ...]) -> str:
    return lucide_tags.lucide(name, size=size, **dict(attributes))
