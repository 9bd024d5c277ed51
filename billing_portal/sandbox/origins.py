"""Who may speak to the sandbox from a browser.

It holds no secrets, but a page from elsewhere must not be able to reset a demo: requests have to name a loopback
host (so that a rebound domain name leads nowhere), other origins read only what Stripe lets a publishable key do,
and only pages on this machine may work the controls.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import StripeError

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
FOR_BROWSERS = (
    "/v1/setup_intents/", "/v1/payment_intents/", "/v1/payment_methods", "/v1/checkout/sessions/", "/elements/",
    "/stripe.js", "/v3", "/dahlia/",
)  # fmt: skip


class PublishableOnly(CORSMiddleware):
    """CORS for what a page may call with a publishable key; no cookies are involved."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, allow_origins=["*"], allow_methods=["GET", "POST"], allow_headers=["*"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shared = scope["type"] == "http" and scope["path"].startswith(FOR_BROWSERS)
        await (super().__call__ if shared else self.app)(scope, receive, send)


class LoopbackOnly:
    """Turns away other hosts, and controls worked from another machine's page."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (reason := _refusal(scope["path"], Headers(scope=scope))):
            response = JSONResponse(StripeError(reason, status=403).body(), status_code=403)
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _refusal(path: str, headers: Headers) -> str | None:
    if not _is_loopback(f"//{headers.get('host', '')}"):
        return "The sandbox answers on loopback addresses only."
    origin = headers.get("origin")
    if headers.get("sec-fetch-site") == "same-origin":
        origin = None  # our own pages send no referrer, so their origin reads "null"
    if path.startswith("/_sandbox") and origin is not None and not _is_loopback(origin):
        return "The sandbox's controls are for pages of this machine only."
    return None


def _is_loopback(address: str) -> bool:
    try:
        return urlsplit(address).hostname in LOOPBACK
    except ValueError:
        return False
