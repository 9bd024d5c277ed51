"""JSON for reading: coloured, with every id that the sandbox knows leading to its object."""

import json
import re

from billing_portal.sandbox.browser import markup
from billing_portal.sandbox.browser.markup import Html
from billing_portal.sandbox.engine import Sandbox

_TOKEN = re.compile(
    r'(?P<key>"(?:\\.|[^"\\])*")(?=: )|(?P<text>"(?:\\.|[^"\\])*")|(?P<bare>\b(?:true|false|null)\b|-?\d[\d.e+-]*)'
)


def show(sandbox: Sandbox, value: object) -> Html:
    source, parts, at = json.dumps(value, indent=2, ensure_ascii=False), [], 0
    for token in _TOKEN.finditer(source):
        parts.append(markup.escape(source[at : token.start()]))
        parts.append(_token(sandbox, token.lastgroup or "", token.group()))
        at = token.end()
    return markup.join([*parts, source[at:]])


def _token(sandbox: Sandbox, kind: str, source: str) -> Html:
    if kind == "text":
        text = json.loads(source)
        if sandbox.store.kind_of.get(text):
            return link(sandbox, text, quoted=True)
        if text.startswith(sandbox.base_url):
            return markup.fill('"<a href="$url">$text</a>"', url=text.removeprefix(sandbox.base_url), text=text)
    return markup.fill('<span class="j-$kind">$source</span>', kind=kind, source=source)


def link(sandbox: Sandbox, identifier: str, *, quoted: bool = False) -> Html:
    """Link an id to its page in the inspector."""
    pattern = '"<a href="$url">$id</a>"' if quoted else '<a href="$url">$id</a>'
    return markup.fill(pattern, url=address(sandbox.store.kind_of.get(identifier), identifier), id=identifier)


def address(kind: str | None, identifier: str) -> str:
    return f"/_sandbox/objects/{kind}/{identifier}"
