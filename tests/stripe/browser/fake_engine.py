"""A few dozen lines of engine to develop the pages against: intents, cards by number, 3-D Secure."""

import itertools
import re

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from billing_portal.sandbox.browser import routes

DECLINES = {
    "4000000000000002": ("card_declined", "generic_decline", "Your card was declined."),
    "4000000000009995": ("card_declined", "insufficient_funds", "Your card has insufficient funds."),
}
CHALLENGED = {"4000002760003184", "4000002500003155"}


def nested(pairs):
    tree = {}
    for name, value in pairs:
        head, *keys = re.split(r"[\[\]]+", name.rstrip("]"))
        node = tree
        for key, inner in itertools.pairwise([head, *keys, None]):
            if inner is None:
                node[key] = value
            else:
                node = node.setdefault(key, {})
    return tree


class FakeSandbox:
    def __init__(self):
        self.store = {}
        self.calls = []
        self.count = itertools.count(1)

    def now(self):
        return 1_790_000_000

    def objects(self, kind):
        return list(self.store.get(kind, {}).values())

    def add(self, kind, prefix, **fields):
        identifier = f"{prefix}_{next(self.count)}"
        row = {"id": identifier, "object": kind, "created": self.now(), "metadata": {}, **fields}
        self.store.setdefault(kind, {})[identifier] = row
        return row

    def add_intent(self, kind="setup_intent", **fields):
        prefix = {"setup_intent": "seti", "payment_intent": "pi"}[kind]
        extra = {"amount": 4200, "currency": "usd"} if kind == "payment_intent" else {"usage": "off_session"}
        row = self.add(kind, prefix, status="requires_payment_method", next_action=None, customer=None, **extra)
        row |= {"payment_method_types": ["card", "link"], "client_secret": f"{row['id']}_secret_s", **fields}
        return row

    def find(self, identifier):
        return next((rows[identifier] for rows in self.store.values() if identifier in rows), None)

    async def authenticate(self, identifier, *, succeeded):
        intent = self.find(identifier)
        intent["next_action"] = None
        intent["status"] = "succeeded" if succeeded else "requires_payment_method"
        if not succeeded:
            name = "last_setup_error" if intent["object"] == "setup_intent" else "last_payment_error"
            code = intent["object"] + "_authentication_failure"
            intent[name] = {"type": "invalid_request_error", "code": code, "message": "Not authenticated."}

    async def call(self, method, path, params):
        self.calls.append((method, path, params))
        _, _, _, identifier, *action = path.split("/")
        row = self.find(identifier)
        if method == "POST" and action == ["confirm"]:
            return self.confirm(row, params)
        if method == "POST" and action == ["detach"]:
            row["customer"] = None
        return 200, row

    def confirm(self, intent, params):
        data = params.get("payment_method_data") or {}
        number = (data.get("card") or {}).get("number", "")
        if number in DECLINES:
            code, decline, message = DECLINES[number]
            error = {"type": "card_error", "code": code, "decline_code": decline, "message": message}
            return 402, {"error": error}
        made = params.get("payment_method") or self.add("payment_method", "pm", customer=None, type=data["type"])["id"]
        intent |= {"payment_method": made, "status": "succeeded"}
        if number in CHALLENGED:
            back = {"url": f"/3ds/{intent['id']}", "return_url": params.get("return_url")}
            intent |= {"status": "requires_action", "next_action": {"type": "use_stripe_sdk", "redirect_to_url": back}}
        return 200, intent


async def api(request):
    items = (await request.form()).multi_items() if request.method == "POST" else request.query_params.multi_items()
    status, body = await request.app.state.sandbox.call(request.method, request.url.path, nested(items))
    return JSONResponse(body, status_code=status)


def build():
    cors = Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
    app = Starlette(routes=[*routes, Route("/v1/{path:path}", api, methods=["GET", "POST"])], middleware=[cors])
    app.state.sandbox = FakeSandbox()
    return app
