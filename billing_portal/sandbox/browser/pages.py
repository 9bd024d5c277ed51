"""The frame around the sandbox's pages, and the small pieces that several of them show."""

import json
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from billing_portal.sandbox.browser import lookup, markup, money, responses
from billing_portal.sandbox.browser.markup import Html
from billing_portal.sandbox.store import Object

_MENU = {"/_sandbox/": "Overview", "/_sandbox/events": "Events", "/_sandbox/faults/": "Faults"}
_NOTHING_REAL = "A stand-in for Stripe. Nothing here moves money, and no bank is asked."
_GOOD = {"paid", "succeeded", "complete", "active", "enabled", "delivered", "ready", "available"}
_BAD = {"uncollectible", "void", "failed", "canceled", "expired", "past_due", "unpaid", "lost", "pending"}


def script(name: str, *, module: bool = True) -> Html:
    kind = "type=module" if module else "defer"
    return markup.fill('<script $kind src="$name"></script>', kind=kind, name=name)


def customer_page(request: Request, title: str, content: Html, *, scripts: Html = Html(""), **options: Any) -> Response:  # noqa: B008 -- immutable
    """Show a page that a paying customer sees, under the merchant's name."""
    name = lookup.merchant(request.app.state.sandbox)
    parts = {"title": title, "content": content, "scripts": scripts, "brand": name, "nav": ""}
    html = markup.render("layout.html", layout="customer", home="#", foot=_NOTHING_REAL, **parts)
    return responses.page(html, **options)


def workshop_page(request: Request, title: str, content: Html, *, status: int = 200) -> Response:
    """Show a page of the inspector."""
    path = request.url.path
    item = '<a href="$url" $here>$name</a>'
    items = [
        markup.fill(item, url=url, here=Html('aria-current="page"' if url == path else ""), name=name)
        for url, name in _MENU.items()
    ]
    parts = {"title": title, "content": content, "scripts": Html(""), "home": "/_sandbox/", "foot": ""}
    nav = markup.fill('<nav aria-label="Inspector">$items</nav>', items=markup.join(items))
    return responses.page(
        markup.render("layout.html", layout="workshop", brand="Stripe stand-in", nav=nav, **parts), status=status
    )


def message(request: Request, title: str, text: str, *, status: int = 404) -> Response:
    content = markup.fill('<section class="card"><h1>$title</h1><p>$text</p></section>', title=title, text=text)
    return customer_page(request, title, content, status=status)


def pill(status: str | None) -> Html:
    tone = "good" if status in _GOOD else "bad" if status in _BAD else "plain"
    text = (status or "–").replace("_", " ")
    return markup.fill('<span class="pill $tone">$text</span>', tone=tone, text=text)


def facts(pairs: dict[str, object]) -> Html:
    """List facts by name and leave out those without a value."""
    row = '<div><dt>$name</dt><dd class="number">$value</dd></div>'
    rows = [markup.fill(row, name=name, value=value) for name, value in pairs.items() if value not in (None, "")]
    return markup.fill('<dl class="facts">$rows</dl>', rows=markup.join(rows))


def total(name: str, amount: int, currency: str) -> Html:
    """Write one row of the sums below a table of three columns."""
    strong = "strong" if name in ("Total", "Amount due") else ""
    row = '<tr class="$strong"><th scope="row" colspan="2">$name</th><td class="number right">$amount</td></tr>'
    return markup.fill(row, strong=strong, name=name, amount=money.display(amount, currency))


def day(timestamp: int | None) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%-d %b %Y") if timestamp else ""


def instant(timestamp: float | None) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S") if timestamp else ""


def method_name(method: Object) -> str:
    """Name a payment method the way customers do."""
    card = method.get("card") or {}
    if card:
        return f"{(card.get('brand') or 'card').title()} •••• {card.get('last4')}"
    email = (method.get("link") or {}).get("email")
    return f"Link ({email})" if email else method["type"].title()


def alert(text: str | None) -> Html:
    return markup.fill('<p class="alert" role="alert">$text</p>', text=text) if text else Html("")


def payment_form(
    secret: str,
    label: str,
    *,
    done: str,
    above: Html = Html(""),  # noqa: B008 -- immutable
    address: dict[str, str] | None = None,
) -> Html:
    """Build a form around our own Payment Element; `pay.js` confirms and then goes to `done`.

    The Element asks for no part of an address that is known already.
    """
    known = json.dumps(address) if address else ""
    return markup.render("payment_form.html", secret=secret, label=label, done=done, above=above, address=known)


PAYMENT_SCRIPTS = markup.join([script("/stripe.js", module=False), script("/elements/static/pay.js")])
