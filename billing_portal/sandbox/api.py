"""One API request from its path to its answer: authentication, idempotency, typing, behaviour, rendering."""

import asyncio
import hashlib
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import generic, rendering, unsupported
from .errors import InvalidAnswer, StripeError, invalid
from .registry import PUBLIC
from .specification import Operation
from .store import Object, snapshot

if TYPE_CHECKING:
    from .engine import Sandbox

log = logging.getLogger(__name__)

PUBLISHABLE = {
    ("GET", "/v1/setup_intents/{intent}"),
    ("POST", "/v1/setup_intents/{intent}/confirm"),
    ("GET", "/v1/payment_intents/{intent}"),
    ("POST", "/v1/payment_intents/{intent}/confirm"),
    ("POST", "/v1/payment_methods"),
    ("GET", "/v1/checkout/sessions/{session}"),
}
IDEMPOTENCY_SECONDS = 24 * 3600
MAX_KEY = 255


@dataclass
class Request:
    """A request as it came over HTTP, decoded but not yet typed."""

    method: str
    path: str
    values: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    idempotency_key: str | None = None


@dataclass
class Answer:
    status: int
    body: Object
    headers: dict[str, str] = field(default_factory=dict)


async def answer(box: "Sandbox", request: Request) -> Answer:
    """Answer a request, with whatever fault is switched on for it."""
    request_id = box.new_id("req", 14)
    result = await _with_faults(box, request, request_id)
    result.headers |= {"Request-Id": request_id, "Stripe-Version": box.specification.version}
    return result


async def _with_faults(box: "Sandbox", request: Request, request_id: str) -> Answer:
    if failure := box.faults.take_failure(request.method, request.path):
        return await _fail(box, request, request_id, failure)
    if box.faults.exceeds_rate():
        message = "Request rate limit exceeded. Learn more about rate limits at https://stripe.com/docs/rate-limits."
        return Answer(429, StripeError(message, code="rate_limit").body(), {"Stripe-Should-Retry": "true"})
    hang = box.faults.take_timeout(request.method, request.path)
    if hang and hang[0] == "before":
        await asyncio.sleep(hang[1])
        return Answer(504, StripeError("Timed out.", type="api_error").body())
    result = await _answered(box, request, request_id)
    if hang:
        await asyncio.sleep(hang[1])
    return result


async def _fail(box: "Sandbox", request: Request, request_id: str, failure: dict[str, Any]) -> Answer:
    """Fail on purpose, before or after the effect."""
    status = int(failure["status"])
    if failure["when"] == "after":
        await _answered(box, request, request_id)
    code, kind = ("rate_limit", "invalid_request_error") if status == 429 else (None, "api_error")
    error = StripeError("The sandbox was told to fail this request.", status=status, type=kind, code=code)
    result = Answer(status, error.body(), {"Stripe-Should-Retry": "true"})
    if failure.get("stored") and request.idempotency_key:
        _remember(box, request.idempotency_key, _fingerprint(request), result)
    return result


async def _answered(box: "Sandbox", request: Request, request_id: str) -> Answer:
    try:
        return await _idempotent(box, request, request_id)
    except StripeError as error:
        return Answer(error.status, error.body())


async def _idempotent(box: "Sandbox", request: Request, request_id: str) -> Answer:
    """Replay the first answer to an idempotency key; requests refused before they began leave none."""
    is_secret = _authenticate(request)
    key = request.idempotency_key if request.method == "POST" else None
    if key is None:
        return await _execute(box, request, request_id, is_secret)
    if not 0 < len(key) <= MAX_KEY:
        raise invalid(f"Invalid idempotency key: it must have 1 to {MAX_KEY} characters")
    fingerprint = _fingerprint(request)
    if replay := _replay(box, key, fingerprint):
        return replay
    result = await _execute(box, request, request_id, is_secret)
    if result.status not in {401, 404, 409, 429}:
        _remember(box, key, fingerprint, result)
    return result


def _remember(box: "Sandbox", key: str, fingerprint: str, result: Answer) -> None:
    record = {"fingerprint": fingerprint, "at": box.now(), "status": result.status, "body": snapshot(result.body)}
    box.store.insert("_idempotency", key, record)
    box.store.commit()


def _replay(box: "Sandbox", key: str, fingerprint: str) -> Answer | None:
    record = box.store.get("_idempotency", key)
    if record and box.now() - record["at"] > IDEMPOTENCY_SECONDS:
        box.store.remove(record)
        record = None
    if record is None:
        return None
    if record["fingerprint"] != fingerprint:
        raise StripeError(
            "Keys for idempotent requests can only be used with the same parameters they were first used with."
            f" Try using a key other than '{key}' if you meant to execute a different request.",
            type="idempotency_error",
        )
    return Answer(record["status"], snapshot(record["body"]), {"Idempotent-Replayed": "true"})


def _fingerprint(request: Request) -> str:
    text = json.dumps([request.method, request.path, request.values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _authenticate(request: Request) -> bool:
    """Whether the key is a secret one; live keys and strangers are turned away."""
    key = request.key
    if not key:
        raise StripeError(
            "You did not provide an API key. You need to provide your API key in the Authorization header,"
            " using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
            status=401,
        )
    if key.startswith(("sk_live_", "rk_live_", "pk_live_")):
        raise StripeError("This is a sandbox: it refuses live keys. Revoke a key that was sent here.", status=401)
    if not key.startswith(("sk_test_", "rk_test_", "pk_test_", "ek_test_")):
        raise StripeError(f"Invalid API Key provided: {key[:8]}****", status=401)
    return not key.startswith("pk_")


async def _execute(box: "Sandbox", request: Request, request_id: str, is_secret: bool) -> Answer:
    found = box.specification.find(request.method, request.path)
    if found is None:
        raise StripeError(
            f"Unrecognized request URL ({request.method}: {request.path}). Please see"
            " https://stripe.com/docs or we can help at https://support.stripe.com/.",
            status=404,
        )
    operation, ids = found
    if request.key.startswith("ek_test_") and (operation.method, operation.path) not in PUBLIC:
        raise StripeError("A session's token opens nothing but the event stream.", status=401)
    if not is_secret and (operation.method, operation.path) not in PUBLISHABLE:
        raise StripeError(
            "This API call cannot be made with a publishable API key. Please use a secret API key.",
            status=403, code="secret_key_required",
        )  # fmt: skip
    schema = box.request_schema(operation, is_secret=is_secret)
    params = box.coercer.request(request.values, schema)
    if operation.method != "GET":
        unsupported.refuse(operation, params)
    call = generic.Call(request.path, ids, params, is_secret, request.key)
    async with box.gate(operation, call):
        box.request = {"id": request_id, "idempotency_key": request.idempotency_key}
        try:
            return _carry_out(box, operation, call)
        finally:
            box.request = {"id": None, "idempotency_key": None}


def _carry_out(box: "Sandbox", operation: Operation, call: generic.Call) -> Answer:
    """Run the behaviour as one transaction; nothing else runs meanwhile."""
    handler = generic.handler_for(operation)
    if handler is None:
        message = f"The sandbox does not implement {operation.method} {operation.path}."
        raise StripeError(message, status=501, type="api_error")
    try:
        body = _shown(box, handler(box, call), call.params.get("expand", ()))
    except StripeError as error:
        if not error.keeps_changes:
            box.rollback()
            raise
        body, status = error.body(), error.status
        if box.strict:
            box.schemas.check("api_errors", body["error"])
    except Exception as error:
        box.rollback()
        log.exception("sandbox behaviour failed")
        reason = f"{type(error).__name__}: {error}"
        raise StripeError(f"The sandbox itself failed: {reason}", status=500, type="api_error") from error
    else:
        status = 200
    box.commit()
    return Answer(status, body)


def _shown(box: "Sandbox", result: Object, expand: Any) -> Object:
    if "_kind" in result:
        return rendering.render(box, result, expand)
    if expand:
        result = snapshot(result)
        for path in expand:
            rendering.expand_path(box, result, path.split("."), path)
    elif box.strict and result.get("object") not in {"list", "search_result", None}:
        box.schemas.check_object(result)
    return result


def describe_failure(error: Exception) -> str:
    kind = "invalid answer" if isinstance(error, InvalidAnswer) else type(error).__name__
    return f"{kind}: {error}"
