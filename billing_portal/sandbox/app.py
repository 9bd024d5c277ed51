"""The ASGI application: Stripe's API, the sandbox's controls and its browser pages under one address."""

import asyncio
import base64
import binascii
import contextlib
import json
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from . import api, browser, control, origins, resources  # noqa: F401 -- importing `resources` registers what the sandbox can do
from .engine import Sandbox
from .errors import StripeError, invalid
from .forms import decode
from .timekeeper import Timekeeper

LONGEST_BODY = 2_000_000


def build(box: Sandbox) -> Starlette:
    """The application around one engine."""
    application = Starlette(
        routes=[*control.routes, *browser.routes, Route("/{path:path}", stripe_api, methods=METHODS)],
        middleware=[Middleware(origins.LoopbackOnly), Middleware(origins.PublishableOnly)],
        exception_handlers={StripeError: refuse},
        lifespan=_lifespan,
    )
    application.state.sandbox = box
    application.state.timekeeper = box.timekeeper = Timekeeper(box)
    return application


METHODS = ["GET", "POST", "DELETE"]


@contextlib.asynccontextmanager
async def _lifespan(application: Starlette) -> AsyncIterator[None]:
    box: Sandbox = application.state.sandbox
    await box.webhooks.start()
    ticking = asyncio.create_task(application.state.timekeeper.tick())
    yield
    ticking.cancel()
    await box.webhooks.stop()
    box.store.close()


async def stripe_api(request: Request) -> JSONResponse:
    """Any path that is not the sandbox's own is Stripe's."""
    answer = await api.answer(request.app.state.sandbox, await _read(request))
    return JSONResponse(answer.body, status_code=answer.status, headers=answer.headers)


async def refuse(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StripeError)
    return JSONResponse(error.body(), status_code=error.status)


async def _read(request: Request) -> api.Request:
    body = await request.body()
    if len(body) > LONGEST_BODY:
        raise StripeError("Request is too large", status=413)
    values = decode(request.url.query)
    if request.headers.get("content-type", "").startswith("application/json"):
        values |= _parse_json(body)
    elif body:
        try:
            values |= decode(body.decode())
        except UnicodeDecodeError:
            raise invalid("Invalid request: the body is not UTF-8") from None
    key = _key(request.headers.get("authorization", "")) or str(values.pop("key", ""))
    return api.Request(
        request.method, request.url.path.rstrip("/"), values, key, request.headers.get("idempotency-key")
    )


def _parse_json(body: bytes) -> dict[str, object]:
    try:
        values = json.loads(body or b"{}")
    except ValueError:
        raise invalid("Invalid request: the body is not JSON") from None
    if not isinstance(values, dict):
        raise invalid("Invalid request: the body is not a JSON object")
    return values


def _key(header: str) -> str:
    """The API key from a Bearer or Basic authorization header."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            return base64.b64decode(value).decode().partition(":")[0]
    return ""
