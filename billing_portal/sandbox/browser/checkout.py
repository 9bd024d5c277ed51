"""Hosted Checkout: what a session sells or saves, our own Payment Element, and the way back to the application.

The session's intent does the work: when it succeeds, the engine completes the session.
"""

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from billing_portal.sandbox.browser import lookup, markup, money, pages
from billing_portal.sandbox.browser.markup import Html
from billing_portal.sandbox.engine import Sandbox
from billing_portal.sandbox.store import Object

_PLACEHOLDER = "{CHECKOUT_SESSION_ID}"
_EMAIL = Html(
    '<div class="stack email"><label for="email">E-mail</label>'
    '<input id="email" name="email" type="email" autocomplete="email" required></div>'
)


def _opened(request: Request) -> Object | None:
    return lookup.find(request.app.state.sandbox, "checkout.session", request.path_params["session"])


def _intent(sandbox: Sandbox, session: Object) -> Object | None:
    reference = session.get("payment_intent") or session.get("setup_intent")
    return lookup.intent_by_id(sandbox, lookup.identifier_of(reference) or "")


async def _items(sandbox: Sandbox, session: Object) -> list[Object]:
    status, page = await sandbox.call("GET", f"/v1/checkout/sessions/{session['id']}/line_items", {"limit": "100"})
    return page["data"] if status == 200 else []


def _item(item: Object) -> Html:
    return markup.fill(
        '<tr><td>$what</td><td class="number right">$count</td><td class="number right">$amount</td></tr>',
        what=item.get("description") or "Item",
        count=item.get("quantity") or "",
        amount=money.display(item["amount_total"], item["currency"]),
    )


def _sums(session: Object) -> Html:
    details = session.get("total_details") or {}
    rows = [
        ("Subtotal", session.get("amount_subtotal")),
        ("Discount", -(details.get("amount_discount") or 0)),
        ("Tax", details.get("amount_tax")),
        ("Total", session.get("amount_total")),
    ]
    return markup.join(pages.total(name, amount, session["currency"]) for name, amount in rows if amount)


def _return_url(session: Object) -> str:
    url = session.get("success_url") or session.get("return_url") or ""
    return url.replace(_PLACEHOLDER, session["id"])


async def show(request: Request) -> Response:
    session, sandbox = _opened(request), request.app.state.sandbox
    if session is None:
        return pages.message(request, "No such checkout", "This address opens no checkout.")
    if session["status"] != "open":
        title = "Already paid" if session["status"] == "complete" else "This checkout has expired"
        return pages.message(request, title, "Go back and start again if you still want to pay.", status=410)
    intent = _intent(sandbox, session)
    if intent is None:
        return pages.message(request, "Nothing to pay", "The sandbox opened no intent for this checkout.", status=501)
    return await _offer(request, session, intent)


async def _offer(request: Request, session: Object, intent: Object) -> Response:
    pays = intent["object"] == "payment_intent"
    amount = money.display(intent["amount"], intent["currency"]) if pays else ""
    email = session.get("customer_email") or (session.get("customer_details") or {}).get("email")
    asks = not email and not session.get("customer")
    content = markup.render(
        "checkout.html",
        back=_cancel(session),
        title=f"Pay {lookup.merchant(request.app.state.sandbox)}" if pays else "Save a payment method",
        amount=markup.fill('<p class="amount number">$amount</p>', amount=amount) if pays else Html(""),
        facts=pages.facts({"E-mail": email}),
        items=await _summary(request, session) if pays else Html(""),
        form=pages.payment_form(
            intent["client_secret"],
            f"Pay {amount}" if pays else "Save",
            done=f"/c/pay/{session['id']}/done",
            above=_EMAIL if asks else Html(""),
        ),
    )
    return pages.customer_page(request, "Checkout", content, scripts=pages.PAYMENT_SCRIPTS, leaves=True)


def _cancel(session: Object) -> Html:
    url = session.get("cancel_url")
    return markup.fill('<p><a href="$url">← Back</a></p>', url=url) if url else Html("")


async def _summary(request: Request, session: Object) -> Html:
    items = await _items(request.app.state.sandbox, session)
    return markup.render("checkout_items.html", items=markup.join(map(_item, items)), sums=_sums(session))


async def done(request: Request) -> Response:
    """Send the customer back once the session is complete, never before."""
    session = _opened(request)
    if session is None or session["status"] != "complete":
        return RedirectResponse(request.url.path.removesuffix("/done"), status_code=303)
    url = _return_url(session)
    if urlsplit(url).scheme in ("http", "https"):
        return RedirectResponse(url, status_code=303)
    return pages.message(request, "Thank you", "You can close this window.", status=200)


routes = [
    Route("/c/pay/{session}", show),
    Route("/c/pay/{session}/done", done),
]
