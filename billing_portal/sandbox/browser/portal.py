"""The customer portal behind a `billing_portal.session`: payment methods, invoices, the way back."""

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from billing_portal.sandbox.browser import lookup, markup, money, pages
from billing_portal.sandbox.browser.markup import Html
from billing_portal.sandbox.store import Object

_INVOICES = 24
_NO_INVOICES = Html('<tr><td colspan="4">None yet.</td></tr>')


class _Visit:
    """One customer's visit: the session, its customer and the address the pages live under."""

    def __init__(self, request: Request, session: Object) -> None:
        self.sandbox = request.app.state.sandbox
        self.session = session
        self.here = urlsplit(session["url"]).path
        self.customer = lookup.find(self.sandbox, "customer", lookup.identifier_of(session["customer"]) or "") or {}
        self.methods = lookup.payment_methods(self.sandbox, self.customer.get("id"))

    def default(self) -> str | None:
        return lookup.default_method(self.customer)

    def owns(self, method: object) -> bool:
        return method in {each["id"] for each in self.methods}


def _visit(request: Request) -> _Visit | None:
    path = f"/p/session/{request.path_params['token']}"
    sessions = request.app.state.sandbox.objects("billing_portal.session")
    session = next((each for each in sessions if urlsplit(each["url"]).path == path), None)
    return _Visit(request, session) if session else None


def _ended(request: Request) -> Response:
    return pages.message(request, "Session ended", "Go back and open the customer portal again.")


def _method(visit: _Visit, method: Object) -> Html:
    is_default = method["id"] == visit.default()
    mark = pages.pill("default") if is_default else Html("")
    choose = '<button name="action" value="default">Make default</button>'
    return markup.fill(
        '<li class="spread"><span><strong>$name</strong> <span class="hint">$until</span> $mark</span>'
        '<form method="post" action="$here/methods" class="inline" aria-label="$name">'
        '<input type="hidden" name="payment_method" value="$id">$choose'
        '<button name="action" value="remove">Remove</button></form></li>',
        name=pages.method_name(method),
        until=_expiry(method),
        mark=mark,
        here=visit.here,
        id=method["id"],
        choose=Html("") if is_default else Html(choose),
    )


def _expiry(method: Object) -> str:
    card = method.get("card") or {}
    return f"expires {card['exp_month']:02d}/{card['exp_year']}" if card.get("exp_year") else ""


def _invoice(invoice: Object) -> Html:
    return markup.fill(
        '<tr><td><a href="$url">$number</a></td><td>$day</td><td>$pill</td><td class="number right">$amount</td></tr>',
        url=urlsplit(invoice["hosted_invoice_url"]).path,
        number=invoice.get("number") or invoice["id"],
        day=pages.day(invoice["created"]),
        pill=pages.pill(invoice["status"]),
        amount=money.display(invoice["total"], invoice["currency"]),
    )


def _show(request: Request, visit: _Visit, *, failure: str | None = None, status: int = 200) -> Response:
    owner = visit.customer.get("id")
    invoices = [each for each in visit.sandbox.store.where("invoice", customer=owner) if each["hosted_invoice_url"]]
    name = visit.customer.get("name") or visit.customer.get("email") or owner
    back = visit.session.get("return_url")
    link = markup.fill('<a href="$url">← Return to $name</a>', url=back, name=lookup.merchant(visit.sandbox))
    content = markup.render(
        "portal.html",
        alert=pages.alert(failure),
        back=link if back else Html(""),
        name=name,
        email=visit.customer.get("email"),
        here=visit.here,
        methods=markup.join(_method(visit, each) for each in visit.methods) or Html("<li>None saved yet.</li>"),
        invoices=markup.join(_invoice(each) for each in invoices[: -_INVOICES - 1 : -1])
        or Html('<tr><td colspan="4">None yet.</td></tr>'),
    )
    return pages.customer_page(request, "Billing", content, status=status)


async def show(request: Request) -> Response:
    visit = _visit(request)
    if visit is None:
        return _ended(request)
    flow = visit.session.get("flow") or {}
    if flow.get("type") == "payment_method_update" and "overview" not in request.query_params:
        return await _offer_form(request, visit)
    return _show(request, visit)


async def _offer_form(request: Request, visit: _Visit) -> Response:
    """Open a setup intent for the customer and show the card form for it."""
    params = {"customer": visit.customer["id"], "usage": "off_session", "payment_method_types": ["card", "link"]}
    status, intent = await visit.sandbox.call("POST", "/v1/setup_intents", params)
    if status != 200:
        return _show(request, visit, failure=intent["error"]["message"], status=status)
    content = markup.render(
        "portal_add.html",
        here=visit.here,
        form=pages.payment_form(intent["client_secret"], "Save payment method", done=f"{visit.here}?overview"),
    )
    return pages.customer_page(request, "Add payment method", content, scripts=pages.PAYMENT_SCRIPTS)


async def add(request: Request) -> Response:
    visit = _visit(request)
    return await _offer_form(request, visit) if visit else _ended(request)


async def change_methods(request: Request) -> Response:
    """Make one of the customer's own payment methods the default, or remove it."""
    visit = _visit(request)
    if visit is None:
        return _ended(request)
    form = await request.form()
    method = form.get("payment_method")
    if not visit.owns(method):
        return _show(request, visit, failure="This payment method is no longer yours.", status=400)
    path = f"/v1/payment_methods/{method}/detach"
    params: Object = {}
    if form.get("action") != "remove":
        path = f"/v1/customers/{visit.customer['id']}"
        params = {"invoice_settings": {"default_payment_method": method}}
    status, body = await visit.sandbox.call("POST", path, params)
    if status != 200:
        return _show(request, visit, failure=body["error"]["message"], status=status)
    return RedirectResponse(_after(visit), status_code=303)


def _after(visit: _Visit) -> str:
    """Return where a change leads: a deep link may say so, else back to the overview."""
    completion = (visit.session.get("flow") or {}).get("after_completion") or {}
    redirect = completion.get("redirect") or {}
    return redirect.get("return_url") or f"{visit.here}?overview"


routes = [
    Route("/p/session/{token}", show),
    Route("/p/session/{token}/add", add, methods=["POST"]),
    Route("/p/session/{token}/methods", change_methods, methods=["POST"]),
]
