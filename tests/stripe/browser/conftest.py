"""The sandbox's pages in a real browser, embedded by a page of another origin under the portal's strict policy."""

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.stripe.browser import fake_engine

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
SHOP_JS = (Path(__file__).parent / "shop.js").read_text()


@contextlib.contextmanager
def serve(app):
    """Serve an application on a free loopback port from a thread; yield its origin."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="session")
def chromium():
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{CHROMIUM} is missing, and CI has to drive a browser")
        pytest.skip(f"{CHROMIUM} is missing")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def application():
    return fake_engine.build()


@pytest.fixture(scope="session")
def origin(application):
    with serve(application) as address:
        yield address


@pytest.fixture
def sandbox(application):
    application.state.sandbox = fake_engine.FakeSandbox()
    return application.state.sandbox


@pytest.fixture(scope="session")
def shop(origin):
    """A page of another origin that embeds the Payment Element, with the policy the portal has."""
    policy = (
        f"default-src 'none'; script-src 'self' {origin}; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self' {origin}; frame-src {origin}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    head = f'<meta charset="utf-8"><title>Shop</title><script src="{origin}/stripe.js"></script>'
    content = (
        f'<!doctype html><html lang="en"><head>{head}<link rel="stylesheet" href="/shop.css">'
        '<script src="/shop.js" defer></script></head><body><main><h1>Save a card</h1><div id="element"></div>'
        '<button id="pay">Save</button><pre id="result" role="status"></pre></main></body></html>'
    )
    css = (
        "body{font:16px sans-serif;max-width:480px;margin:24px auto;padding:0 16px;background:light-dark(#fff,#151a24);"
        "color:light-dark(#111,#eee)} :root{color-scheme:light dark} button{padding:10px 20px;margin-top:16px}"
    )
    app = Starlette(
        routes=[
            Route("/", lambda _: HTMLResponse(content, headers={"Content-Security-Policy": policy})),
            Route("/shop.js", lambda _: Response(SHOP_JS, media_type="text/javascript")),
            Route("/shop.css", lambda _: Response(css, media_type="text/css")),
            Route("/favicon.ico", lambda _: Response(status_code=204)),
        ]
    )
    with serve(app) as address:
        yield address


@pytest.fixture
def page(chromium):
    """A fresh browser window that fails the test for any error the browser reported."""
    context = chromium.new_context(locale="en-US", viewport={"width": 560, "height": 900})
    context.set_default_timeout(10_000)
    window = context.new_page()
    window.complaints = []
    window.on("pageerror", lambda error: window.complaints.append(str(error)))
    window.on(
        "console",
        lambda message: message.type == "error"
        and "status of 402" not in message.text
        and window.complaints.append(message.text),
    )
    yield window
    context.close()
    assert window.complaints == []
