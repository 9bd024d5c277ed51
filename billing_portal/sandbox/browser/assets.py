"""The scripts and style sheets, `stripe.js` among them."""

import mimetypes
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

_STATIC = Path(__file__).with_name("static")
_NAMES = frozenset(path.name for path in _STATIC.iterdir())
_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    # stripe.js imports a module from here into pages of other origins.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


def _serve(name: str) -> Response:
    kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0]
    return Response((_STATIC / name).read_bytes(), media_type=kind, headers=_HEADERS)


def asset(request: Request) -> Response:
    name = request.path_params["name"]
    return _serve(name) if name in _NAMES else PlainTextResponse("No such file.", status_code=404)


def stripe_js(_request: Request) -> Response:
    return _serve("stripe.js")


def favicon(_request: Request) -> Response:
    return _serve("icon.svg")


routes = [
    Route("/favicon.ico", favicon),
    *(Route(path, stripe_js) for path in ("/stripe.js", "/v3", "/v3/", "/dahlia/stripe.js")),
    Route("/elements/static/{name}", asset),
]
