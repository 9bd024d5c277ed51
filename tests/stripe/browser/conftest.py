"""The sandbox's pages in a real browser, embedded by a page of another origin under the portal's strict policy."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from billing_portal.sandbox import app, specification
from billing_portal.sandbox.engine import Sandbox
from tests.local_servers import CHROMIUM_FLAGS, PATIENCE_MS

HERE = Path(__file__).parent


@contextlib.contextmanager
def serve(build: Callable[[str], Starlette]) -> Iterator[str]:
    """Serve an application on a free loopback port from a thread; yield its origin."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # Who connects before the server has started waits instead of being refused.
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(build(origin), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield origin
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")  # no longer: beside its loop, Django takes the ORM's use for a mistake
def chromium(chromium_path):
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium_path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def origin():
    """The sandbox, on a port of its own."""
    with serve(lambda base: app.build(Sandbox(specification.load(), base_url=base))) as address:
        yield address


def flatten(value: Any, name: str = "") -> dict[str, str]:
    """Write nested parameters as Stripe's forms do."""
    if isinstance(value, dict):
        items = [(f"{name}[{key}]" if name else key, inner) for key, inner in value.items()]
    elif isinstance(value, list):
        items = [(f"{name}[{index}]", inner) for index, inner in enumerate(value)]
    else:
        return {name: str(value).lower() if isinstance(value, bool) else str(value)}
    return {key: text for inner_name, inner in items for key, text in flatten(inner, inner_name).items()}


class Api:
    """The account's owner, over HTTP."""

    def __init__(self, origin: str) -> None:
        self.client = httpx.Client(
            base_url=origin, headers={"Authorization": "Bearer sk_test_owner"}, timeout=60, trust_env=False
        )

    def post(self, path: str, **params: Any) -> dict:
        response = self.client.post(f"/v1/{path}", data=flatten(params))
        assert response.status_code == 200, response.text
        return response.json()

    def get(self, path: str, **params: Any) -> dict:
        response = self.client.get(f"/v1/{path}", params=flatten(params))
        assert response.status_code == 200, response.text
        return response.json()

    def control(self, name: str, **wanted: Any) -> dict:
        response = self.client.post(f"/_sandbox/{name}", json=wanted)
        assert response.status_code == 200, response.text
        return response.json()

    def setup_intent(self, **params: Any) -> dict:
        return self.post("setup_intents", **{"automatic_payment_methods": {"enabled": True}, **params})

    def payment_intent(self, **params: Any) -> dict:
        defaults = {"amount": 4200, "currency": "usd", "automatic_payment_methods": {"enabled": True}}
        return self.post("payment_intents", **{**defaults, **params})

    def customer(self, *cards: str, **params: Any) -> dict:
        """Create a customer with saved cards, the last of them the default."""
        customer = self.post("customers", **{"email": "ada@example.com", "name": "Ada Lovelace", **params})
        for card in cards:
            method = self.post(f"payment_methods/{card}/attach", customer=customer["id"])
            self.post(f"payment_methods/{method['id']}", allow_redisplay="always")
            default = {"default_payment_method": method["id"]}
            customer = self.post(f"customers/{customer['id']}", invoice_settings=default)
        return customer

    def invoice(self, customer: str, **params: Any) -> dict:
        """Finalize an invoice over two lines of 42.00 and 8.50 USD."""
        for amount, text in ((4200, "Agent minutes"), (850, "Tool calls")):
            self.post("invoiceitems", customer=customer, amount=amount, currency="usd", description=text)
        draft = {"customer": customer, "auto_advance": False, "pending_invoice_items_behavior": "include"}
        invoice = self.post("invoices", **{**draft, **params})
        return self.post(f"invoices/{invoice['id']}/finalize", auto_advance=False)


@pytest.fixture
def api(origin):
    """The API of an empty sandbox."""
    owner = Api(origin)
    owner.control("reset")
    yield owner
    owner.client.close()


@pytest.fixture(scope="session")
def shop(origin):
    """A page of another origin that embeds the Payment Element, with the policy the portal has."""
    policy = (
        f"default-src 'none'; script-src 'self' {origin}; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self' {origin}; frame-src {origin}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    content = (HERE / "shop.html").read_text().replace("ORIGIN", origin)
    files = {name: (HERE / name).read_text() for name in ("shop.js", "shop.css")}
    site = Starlette(
        routes=[
            Route("/", lambda _: HTMLResponse(content, headers={"Content-Security-Policy": policy})),
            Route("/shop.js", lambda _: Response(files["shop.js"], media_type="text/javascript")),
            Route("/shop.css", lambda _: Response(files["shop.css"], media_type="text/css")),
            Route("/favicon.ico", lambda _: Response(status_code=204)),
        ]
    )
    with serve(lambda _: site) as address:
        yield address


@pytest.fixture
def page(chromium):
    """A fresh browser window that fails the test for any error the browser reported, except a declined card's."""
    context = chromium.new_context(locale="en-US", viewport={"width": 560, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    window = context.new_page()
    window.complaints = []
    window.on("pageerror", lambda error: window.complaints.append(str(error)))
    window.on("console", lambda said: said.type == "error" and window.complaints.append(said.text))
    yield window
    context.close()
    assert [text for text in window.complaints if "status of 402" not in text] == []
