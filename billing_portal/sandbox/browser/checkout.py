"""Hosted Checkout: what a session sells or saves, our own Payment Element, and the way back to the application.

The session's intent does the work: when it succeeds, the engine completes the session.
"""

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from billing_portal.sandbox.browser import local_currency, lookup, markup, money, pages
from billing_portal.sandbox.browser.markup import Html
from billing_portal.sandbox.engine import Sandbox
from billing_portal.sandbox.errors import StripeError
from billing_portal.sandbox.resources import checkout_details
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
        amount=money.display(item["amount_subtotal"], item["currency"]),
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
    if "again" in request.query_params or checkout_details.is_asked(sandbox, session["id"]):
        return await _ask(request, session, _known(session))
    return await _offer(request, session, intent)


async def _offer(request: Request, session: Object, intent: Object) -> Response:
    sandbox, here = request.app.state.sandbox, f"/c/pay/{session['id']}"
    pays = intent["object"] == "payment_intent"
    amount = local_currency.price(sandbox, intent) if pays else ""
    details = session.get("customer_details") or {}
    email = session.get("customer_email") or details.get("email")
    asks = not email and not session.get("customer")
    address = {name: value for name, value in (details.get("address") or {}).items() if value}
    content = markup.render(
        "checkout.html",
        back=_cancel(session),
        title=_title(sandbox, session),
        amount=markup.fill('<p class="amount number">$amount</p>', amount=amount) if pays else Html(""),
        currencies=local_currency.choice(sandbox, intent, here) if pays else Html(""),
        facts=pages.facts({"E-mail": email, "Billed to": _place(details), "Tax ID": _tax_id(details)}),
        again=markup.fill('<p><a href="$here?again">Change billing details</a></p>', here=here) if address else "",
        items=await _summary(request, session),
        form=pages.payment_form(
            intent["client_secret"],
            f"Pay {amount}" if pays else "Subscribe" if session["mode"] == "subscription" else "Save",
            done=f"{here}/done",
            above=_EMAIL if asks else Html(""),
            address=address,
        ),
    )
    return pages.customer_page(request, "Checkout", content, scripts=pages.PAYMENT_SCRIPTS, leaves=True)


def _title(sandbox: Sandbox, session: Object) -> str:
    verb = {"payment": "Pay", "subscription": "Subscribe to"}.get(session["mode"])
    return f"{verb} {lookup.merchant(sandbox)}" if verb else "Save a payment method"


def _place(details: Object) -> str:
    address = details.get("address") or {}
    parts = [details.get("name"), *(address.get(name) for name in ("line1", "postal_code", "city", "state", "country"))]
    return ", ".join(part for part in parts if part) if address else ""


def _tax_id(details: Object) -> str:
    return ", ".join(each["value"] for each in details.get("tax_ids") or [])


# --- Billing details, before the tax on them can be known ------------------------------------------------------


def _known(session: Object) -> dict[str, str]:
    details = session.get("customer_details") or {}
    address = {name: value or "" for name, value in (details.get("address") or {}).items()}
    return {**address, "name": details.get("name") or "", "tax_id": _tax_id(details)}


async def _ask(request: Request, session: Object, known: dict[str, str], failure: str | None = None) -> Response:
    collects = (session.get("tax_id_collection") or {}).get("enabled")
    tax_id = markup.fill(
        '<label for="tax_id">Tax ID (VAT, GST)</label><input id="tax_id" name="tax_id" value="$value">',
        value=known.get("tax_id"),
    )
    names = ("name", "country", "line1", "postal_code", "city", "state")
    content = markup.render(
        "checkout_details.html",
        back=_cancel(session),
        title=_title(request.app.state.sandbox, session),
        items=await _summary(request, session),
        alert=pages.alert(failure),
        tax=Html('<p class="hint">Tax is added by where you are.</p>') if session["automatic_tax"]["enabled"] else "",
        here=f"/c/pay/{session['id']}",
        name_label="Business name" if collects else "Name",
        tax_id=tax_id if collects else Html(""),
        **{name: known.get(name, "") for name in names},
    )
    scripts = pages.script("/elements/static/address.js")
    return pages.customer_page(request, "Checkout", content, scripts=scripts, status=400 if failure else 200)


async def details(request: Request) -> Response:
    """Take the customer's address and tax id, then show what they owe."""
    session = _opened(request)
    if session is None or session["status"] != "open":
        return await show(request)
    given = {name: str(value) for name, value in (await request.form()).items()}
    try:
        request.app.state.sandbox.step(checkout_details.record, session["id"], given)
    except StripeError as error:
        return await _ask(request, session, given, str(error))
    return RedirectResponse(f"/c/pay/{session['id']}", status_code=303)


async def currency(request: Request) -> Response:
    session = _opened(request)
    intent = _intent(request.app.state.sandbox, session) if session else None
    if not session or not intent or intent["object"] != "payment_intent":
        return await show(request)
    await local_currency.choose(request, intent)
    return RedirectResponse(f"/c/pay/{session['id']}", status_code=303)


# --- The way out -----------------------------------------------------------------------------------------------


def _cancel(session: Object) -> Html:
    url = session.get("cancel_url")
    return markup.fill('<p><a href="$url">← Back</a></p>', url=url) if url else Html("")


async def _summary(request: Request, session: Object) -> Html:
    """List what is sold; a session that saves a card sells nothing."""
    if session["mode"] == "setup":
        return Html("")
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
    Route("/c/pay/{session}/details", details, methods=["POST"]),
    Route("/c/pay/{session}/currency", currency, methods=["POST"]),
    Route("/c/pay/{session}/done", done),
]
