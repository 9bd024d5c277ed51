"""The Payment Element's frame, and the session it opens with.

Stripe's frames open with an undocumented call of their own, so this one has its own address outside `/v1`.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from billing_portal.sandbox.browser import lookup, markup, responses
from billing_portal.sandbox.engine import Sandbox
from billing_portal.sandbox.store import Object

_FEATURES = ("payment_method_save", "payment_method_save_usage", "payment_method_remove")


def payment_frame(_request: Request) -> Response:
    return responses.page(markup.render("payment_frame.html"), framed=True)


def _refuse(message: str, *, code: str = "resource_missing", status: int = 400) -> JSONResponse:
    error = {"type": "invalid_request_error", "code": code, "message": message}
    return JSONResponse({"error": error}, status_code=status)


def _has_publishable_key(request: Request) -> bool:
    return request.headers.get("authorization", "").startswith("Bearer pk_test_")


def _features(session: Object | None) -> Object:
    component = ((session or {}).get("components") or {}).get("payment_element") or {}
    return (component.get("features") or {}) if component.get("enabled") else {}


def _saved_methods(sandbox: Sandbox, session: Object | None) -> list[Object]:
    features = _features(session)
    if not session or features.get("payment_method_redisplay") != "enabled":
        return []
    shown = features.get("payment_method_allow_redisplay_filters") or ["always"]
    methods = lookup.payment_methods(sandbox, lookup.identifier_of(session["customer"]))
    limit = features.get("payment_method_redisplay_limit") or 10
    return [each for each in methods if each.get("allow_redisplay") in shown][:limit]


def _describe(sandbox: Sandbox, intent: Object, session: Object | None, *, saves: bool) -> Object:
    customer_id = lookup.identifier_of((session or intent).get("customer"))
    customer = lookup.find(sandbox, "customer", customer_id) if customer_id else None
    features = _features(session)
    return {
        "merchant": lookup.merchant(sandbox),
        "now": int(sandbox.now()),
        "saves": saves,
        "payment_method_types": intent.get("payment_method_types") or ["card", "link"],
        "customer": {"email": (customer or {}).get("email")},
        "features": {name: features[name] for name in _FEATURES if features.get(name)},
        "payment_methods": _saved_methods(sandbox, session),
    }


async def _form(request: Request) -> dict[str, str]:
    return {name: str(value) for name, value in (await request.form()).items()}


async def open_session(request: Request) -> Response:
    """Describe what the frame has to show; both secrets must open something."""
    if not _has_publishable_key(request):
        return _refuse("You did not provide a publishable API key.", code="api_key_missing", status=401)
    form, sandbox = await _form(request), request.app.state.sandbox
    secret, mode = form.get("client_secret"), form.get("mode")
    intent = lookup.intent(sandbox, secret) if secret else {}
    if intent is None or (not secret and mode not in ("setup", "payment", "subscription")):
        return _refuse("The client_secret provided does not match any associated SetupIntent or PaymentIntent.")
    session = lookup.customer_session(sandbox, form.get("customer_session_client_secret", ""))
    if form.get("customer_session_client_secret") and not session:
        return _refuse("The customer_session_client_secret provided does not match any CustomerSession.")
    saves = intent.get("object") == "setup_intent" or mode in ("setup", "subscription")
    saves = saves or bool(intent.get("setup_future_usage"))
    return JSONResponse(_describe(sandbox, intent, session, saves=saves), headers={"Cache-Control": "no-store"})


async def remove_method(request: Request) -> Response:
    """Detach a saved payment method of the session's own customer, if the session allows it."""
    form, sandbox = await _form(request), request.app.state.sandbox
    session = lookup.customer_session(sandbox, form.get("customer_session_client_secret", "")) or {}
    method = lookup.find(sandbox, "payment_method", form.get("payment_method", "")) or {}
    owns = bool(session) and lookup.identifier_of(method.get("customer")) == session["customer"]
    if not owns or _features(session).get("payment_method_remove") != "enabled":
        return _refuse("This payment method cannot be removed here.", code="payment_method_unexpected_state")
    status, body = await sandbox.call("POST", f"/v1/payment_methods/{method['id']}/detach", {})
    return JSONResponse(body, status_code=status)


routes = [
    Route("/elements/payment-frame", payment_frame),
    Route("/elements/session", open_session, methods=["POST"]),
    Route("/elements/session/remove", remove_method, methods=["POST"]),
]
