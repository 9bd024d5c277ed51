"""The sandbox as a process of its own, spoken to over HTTP, and an endpoint that takes its webhooks."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import stripe

ROOT = Path(__file__).resolve().parents[2]
SECRET = "whsec_contract"
START_SECONDS = 30


@dataclass
class RunningSandbox:
    """The sandbox process, its controls, and Stripe's own client pointed at it."""

    url: str
    client: stripe.StripeClient
    control: httpx.Client
    session: requests.Session

    def now(self) -> datetime:
        return datetime.fromisoformat(self.control.get("/_sandbox/clock").json()["now"])

    def timestamp(self) -> int:
        return int(self.now().timestamp())

    def advance(self, seconds: float) -> dict[str, Any]:
        return self._moved({"advance_seconds": seconds})

    def advance_to(self, instant: float) -> dict[str, Any]:
        return self._moved({"now": datetime.fromtimestamp(instant, UTC).isoformat()})

    def _moved(self, where: dict[str, Any]) -> dict[str, Any]:
        answer = self.control.post("/_sandbox/clock", json=where)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def faults(self, **wanted: Any) -> dict[str, Any]:
        return self.control.post("/_sandbox/faults", json=wanted).raise_for_status().json()

    def flush(self) -> dict[str, Any]:
        return self.control.post("/_sandbox/webhooks/flush", timeout=90).raise_for_status().json()

    def dump(self) -> dict[str, Any]:
        return self.control.get("/_sandbox/dump").raise_for_status().json()

    def reset(self) -> None:
        self.control.post("/_sandbox/reset").raise_for_status()

    def event_types(self) -> list[str]:
        """Types of all events, oldest first."""
        return [event["type"] for event in self.dump()["events"]]

    def browser(self, method: str, path: str, params: dict[str, str]) -> httpx.Response:
        """A call as a page makes it, with a publishable key."""
        headers = {"Authorization": "Bearer pk_test_contract"}
        sent = {"params": params} if method == "GET" else {"data": params}
        return self.control.request(method, path, headers=headers, **sent)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start(*arguments: str, environment: dict[str, str] | None = None) -> tuple[subprocess.Popen[bytes], RunningSandbox]:
    """Start a sandbox on a free port and wait until it answers."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "billing_portal.sandbox", "--port", str(port), *arguments],
        cwd=ROOT,
        env=os.environ | (environment or {}),
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_SECONDS
    control = httpx.Client(base_url=url, timeout=60, trust_env=False)
    while True:
        try:
            control.get("/_sandbox/health").raise_for_status()
            break
        except httpx.HTTPError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise
            time.sleep(0.05)
    session = requests.Session()
    client = stripe.StripeClient(
        "sk_test_contract",
        base_addresses={"api": url, "meter_events": url},
        http_client=stripe.RequestsClient(session=session, timeout=60),
        max_network_retries=0,
    )
    return process, RunningSandbox(url, client, control, session)


def stop(process: subprocess.Popen[bytes], sandbox: RunningSandbox) -> None:
    sandbox.control.close()
    sandbox.session.close()
    process.terminate()
    process.wait(timeout=15)


@pytest.fixture(scope="session")
def stripe_sandbox_process() -> Iterator[RunningSandbox]:
    process, sandbox = start()
    yield sandbox
    stop(process, sandbox)


@pytest.fixture
def stripe_sandbox(stripe_sandbox_process: RunningSandbox) -> RunningSandbox:
    """The sandbox with nothing in it, on the wall clock."""
    stripe_sandbox_process.reset()
    return stripe_sandbox_process


@pytest.fixture
def client(stripe_sandbox: RunningSandbox) -> stripe.StripeClient:
    return stripe_sandbox.client


@dataclass
class Received:
    """One webhook as it arrived."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Receiver:
    """An endpoint that keeps what it gets and answers as it is told."""

    url: str
    received: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def types(self) -> list[str]:
        return [each.event["type"] for each in self.received]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    taken = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.received.append(Received(dict(self.headers), body))
            self.send_response(taken.statuses.pop(0) if taken.statuses else 200)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taken.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield taken
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Metered:
    """A customer with a card, a meter and a subscription to it, a thousandth of a cent a unit."""

    customer: stripe.Customer
    card: stripe.PaymentMethod
    meter: Any
    price: stripe.Price
    subscription: stripe.Subscription

    @property
    def period_end(self) -> int:
        return self.subscription["items"].data[0].current_period_end


def metered_customer(
    client: stripe.StripeClient,
    *,
    card: str = "pm_card_visa",
    unit_amount_decimal: str = "0.001",
    currency: str = "usd",
) -> Metered:
    customer = client.v1.customers.create({"email": "owner@customer.example", "name": "Customer"})
    method = client.v1.payment_methods.attach(card, {"customer": customer.id})
    settings = {"default_payment_method": method.id}
    client.v1.customers.update(customer.id, {"invoice_settings": settings})
    name = f"voice_{customer.id[-8:]}"
    meter = client.v1.billing.meters.create(
        {"display_name": "Voice", "event_name": name, "default_aggregation": {"formula": "sum"}}
    )
    product = client.v1.products.create({"name": "Voice"})
    price = client.v1.prices.create(
        {
            "currency": currency,
            "product": product.id,
            "unit_amount_decimal": unit_amount_decimal,
            "recurring": {"interval": "month", "meter": meter.id, "usage_type": "metered"},
        }
    )
    subscription = client.v1.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": price.id}],
            "default_payment_method": method.id,
            "proration_behavior": "none",
        }
    )
    return Metered(customer, method, meter, price, subscription)


@pytest.fixture
def metered(client: stripe.StripeClient) -> Metered:
    return metered_customer(client)


def report(client: stripe.StripeClient, metered: Metered, value: int, **fields: Any) -> Any:
    """Send one meter event."""
    payload = {"stripe_customer_id": metered.customer.id, "value": str(value)}
    return client.v1.billing.meter_events.create({"event_name": metered.meter.event_name, "payload": payload, **fields})
