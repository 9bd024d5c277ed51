"""The sandbox's own controls under ``/_sandbox/``: clock, faults, webhooks, dump, reset."""

import json
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from .engine import Sandbox
from .errors import invalid


async def read_clock(request: Request) -> JSONResponse:
    return JSONResponse(_clock(request.app.state.sandbox))


async def move_clock(request: Request) -> JSONResponse:
    """Forward only; everything that falls due happens, in order, before the answer."""
    box: Sandbox = request.app.state.sandbox
    wanted = await _body(request)
    if "advance_seconds" in wanted:
        target = box.clock.exact() + float(wanted["advance_seconds"])
    elif "now" in wanted:
        target = parse_instant(wanted["now"])
    else:
        raise invalid('Say where to: {"now": ISO 8601} or {"advance_seconds": n}')
    if target < box.clock.exact():
        raise invalid("The clock only moves forward", param="now")
    counts = await request.app.state.timekeeper.advance(target)
    if counts["failures"]:
        return JSONResponse(_clock(box) | counts, status_code=500)
    return JSONResponse(_clock(box) | counts)


async def set_faults(request: Request) -> JSONResponse:
    box: Sandbox = request.app.state.sandbox
    box.faults.set(await _body(request))
    return JSONResponse(box.faults.describe())


async def read_faults(request: Request) -> JSONResponse:
    return JSONResponse(request.app.state.sandbox.faults.describe())


async def flush_webhooks(request: Request) -> JSONResponse:
    return JSONResponse(await request.app.state.sandbox.webhooks.flush())


async def list_pending(request: Request) -> JSONResponse:
    return JSONResponse({"pending": request.app.state.sandbox.webhooks.describe_pending()})


async def reset(request: Request) -> JSONResponse:
    """Forget everything: objects, events, faults, and the clock's offset."""
    box: Sandbox = request.app.state.sandbox
    box.reset()
    return JSONResponse({"reset": True})


async def dump(request: Request) -> JSONResponse:
    box: Sandbox = request.app.state.sandbox
    return JSONResponse({
        "clock": _clock(box),
        "objects": {kind: box.objects(kind) for kind in box.kinds() if kind != "event"},
        "events": box.events(),
    })  # fmt: skip


async def authenticate(request: Request) -> JSONResponse:
    """End a 3-D Secure challenge: ``{"intent": id, "outcome": "succeed" | "fail"}``."""
    box: Sandbox = request.app.state.sandbox
    wanted = await _body(request)
    succeeded = wanted.get("outcome", "succeed") == "succeed"
    return JSONResponse(await box.authenticate(wanted.get("intent", ""), succeeded=succeeded))


async def health(request: Request) -> JSONResponse:
    return JSONResponse({"sandbox": True, "stripe_version": request.app.state.sandbox.specification.version})


def parse_instant(text: str) -> float:
    try:
        instant = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise invalid(f"Not an ISO 8601 instant: {text}", param="now") from None
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


def _clock(box: Sandbox) -> dict[str, Any]:
    return {"now": box.clock.iso(), "offset_seconds": box.clock.offset}


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body() or b"{}")
    except json.JSONDecodeError:
        raise invalid("The body is not JSON") from None
    if not isinstance(body, dict):
        raise invalid("The body is not a JSON object")
    return body


routes = [
    Route("/_sandbox/health", health),
    Route("/_sandbox/clock", read_clock, methods=["GET"]),
    Route("/_sandbox/clock", move_clock, methods=["POST"]),
    Route("/_sandbox/faults", read_faults, methods=["GET"]),
    Route("/_sandbox/faults", set_faults, methods=["POST"]),
    Route("/_sandbox/webhooks", list_pending, methods=["GET"]),
    Route("/_sandbox/webhooks/flush", flush_webhooks, methods=["POST"]),
    Route("/_sandbox/reset", reset, methods=["POST"]),
    Route("/_sandbox/dump", dump, methods=["GET"]),
    Route("/_sandbox/authenticate", authenticate, methods=["POST"]),
]
