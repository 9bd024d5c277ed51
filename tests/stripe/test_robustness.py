"""Requests nobody should send: whatever comes, the sandbox answers as Stripe would and stays whole."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from billing_portal.sandbox import app, forms, generic, specification
from billing_portal.sandbox.engine import Sandbox
from billing_portal.sandbox.errors import StripeError
from billing_portal.sandbox.timekeeper import Timekeeper

ROUNDS = 1500
PLAIN = {"integer": [0, 1, -1, 7, 500, 10**15], "number": [0, 1.5, 19], "boolean": [True, False]}
TEXTS = [
    "",
    "x",
    "usd",
    "eur",
    "pm_card_visa",
    "pm_card_chargeDeclined",
    "DE",
    "2027-01-01T00:00:00Z",
    "12.5",
    "\x00",
    "é" * 40,
]


class Fuzzer:
    """Draws parameters from an operation's own schema, with ids of things that exist."""

    def __init__(self, box: Sandbox, seed: int) -> None:
        self.box = box
        self.random = random.Random(seed)

    def value(self, schema: dict[str, Any], depth: int = 0) -> Any:
        schema = self.box.schemas.resolve(schema)
        if "anyOf" in schema:
            return self.value(self.random.choice(schema["anyOf"]), depth)
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        kind = schema.get("type")
        if kind == "object":
            return self.members(schema, depth)
        if kind == "array":
            return [self.value(schema["items"], depth + 1) for _ in range(self.random.choice((0, 1, 2)))]
        if kind in PLAIN:
            return self.random.choice(PLAIN[kind])
        return self.text()

    def members(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), schema.get("required", ())
        share = 0.12 if depth == 0 else 0.3
        names = [n for n in properties if n in required or (depth < 4 and self.random.random() < share)]
        return {name: self.value(properties[name], depth + 1) for name in names if name != "expand"}

    def text(self) -> str:
        known = list(self.box.store.kind_of)
        return self.random.choice(known) if known and self.random.random() < 0.6 else self.random.choice(TEXTS)

    def identifier(self, kind_of_path: str) -> str:
        """Mostly something of the kind the path is about."""
        wanted = kind_of_path.split("/")[-2].rstrip("s") if "/" in kind_of_path else ""
        fitting = [key for key, kind in self.box.store.kind_of.items() if wanted in kind]
        return self.random.choice(fitting) if fitting and self.random.random() < 0.8 else self.text() or "x"


async def send(box: Sandbox, fuzzer: Fuzzer, operation: specification.Operation) -> tuple[int, str]:
    path = operation.path
    while "{" in path:
        head, _, rest = path.partition("{")
        path = head + fuzzer.identifier(head + "x").replace("/", "") + rest.partition("}")[2]
    status, body = await box.call(operation.method, path, fuzzer.members(operation.request_schema, 0))
    return status, f"{operation.method} {operation.path}: {body.get('error', {}).get('message', '')}"


async def furnish(box: Sandbox) -> None:
    """Something of most kinds for the requests to hit."""

    async def make(path: str, **params: Any) -> dict[str, Any]:
        status, body = await box.call("POST", path, params)
        assert status == 200, body
        return body

    customer = await make("/v1/customers", address={"country": "DE"})
    method = await make("/v1/payment_methods/pm_card_visa/attach", customer=customer["id"])
    formula = {"formula": "sum"}
    meter = await make("/v1/billing/meters", display_name="m", event_name="m", default_aggregation=formula)
    product = await make("/v1/products", name="p")
    common = {"currency": "usd", "product": product["id"]}
    recurring = {"interval": "month", "meter": meter["id"], "usage_type": "metered"}
    metered = await make("/v1/prices", **common, unit_amount_decimal="0.01", recurring=recurring)
    licensed = await make("/v1/prices", **common, unit_amount=900, recurring={"interval": "month"})
    items = [{"price": metered["id"]}, {"price": licensed["id"]}]
    owner = {"customer": customer["id"]}
    await make("/v1/subscriptions", **owner, items=items, default_payment_method=method["id"])
    await make("/v1/setup_intents", **owner)
    paying = {"amount": 900, "currency": "usd", "payment_method": method["id"], "return_url": "https://x.example/"}
    await make("/v1/payment_intents", **owner, **paying, confirm=True)
    for _ in range(3):
        invoice = await make("/v1/invoices", **owner, automatic_tax={"enabled": True})
        await make("/v1/invoiceitems", **owner, invoice=invoice["id"], amount=5_000)
    await make(f"/v1/invoices/{invoice['id']}/finalize", auto_advance=False)
    await make("/v1/checkout/sessions", mode="setup", currency="usd", success_url="https://x.example/")


async def barrage(seed: int) -> list[str]:
    box = Sandbox(specification.load())
    box.timekeeper = Timekeeper(box)
    app.build(box)
    await furnish(box)
    fuzzer = Fuzzer(box, seed)
    known = [o for o in box.specification.operations.values() if generic.handler_for(o)]
    broken = []
    for number in range(ROUNDS):
        operation = fuzzer.random.choice(known)
        status, about = await send(box, fuzzer, operation)
        if status == 500:
            broken.append(about)
        if number % 100 == 99:
            moved = await box.timekeeper.advance(box.clock.exact() + fuzzer.random.choice((1, 3700, 86400, 32 * 86400)))
            broken += moved["failures"]
    for kind in box.kinds():
        box.objects(kind)
    return broken


@pytest.mark.parametrize("seed", range(3))
def test_no_request_breaks_the_sandbox(seed):
    # In a thread of its own: a browser of other tests may hold this one's event loop.
    with ThreadPoolExecutor(max_workers=1) as pool:
        assert pool.submit(lambda: asyncio.run(barrage(seed))).result() == []


@pytest.mark.parametrize(
    "form",
    [
        "a[²]=1",
        "a[b]=1&a=2",
        "a=2&a[b]=1",
        "[]=1",
        "a[[b]]=1",
        "=1",
        "a" + "[b]" * 50 + "=1",
        "a%00b=1",
        "]=[",
        "a[-1]=2",
    ],
)
def test_a_strange_form_is_refused_or_read(form):
    box = Sandbox(specification.load())
    schema = box.specification.operations["POST", "/v1/customers"].request_schema
    with pytest.raises(StripeError):
        box.coercer.request(forms.decode(form), schema)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"a" * 2_100_000, b"email=%ff"])
def test_a_body_that_is_no_text_is_answered(stripe_sandbox, body):
    headers = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}
    answer = stripe_sandbox.control.post("/v1/customers", headers=headers, content=body)
    assert answer.status_code < 500


@pytest.mark.parametrize("body", [b"[]", b"{", b"null", b'{"events": 3}', b"\xff"])
def test_json_that_is_no_object_is_refused(stripe_sandbox, body):
    headers = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/json"}
    assert stripe_sandbox.control.post("/v2/billing/meter_events", headers=headers, content=body).status_code == 400
