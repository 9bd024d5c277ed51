"""How fast Stripe's events are acknowledged: signed invoices of ten lines, posted to one process over four connections.

No Stripe runs beside it, so an acknowledgment that called out would fail.
"""

import argparse
import hashlib
import hmac
import http.client
import json
import resource
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.test import override_settings

from billing_portal.billing.models import InboxEvent
from billing_portal.local import latencies, serving
from billing_portal.local.bench import Figure, at_least, at_most

_EVENTS = 3_000
_CONNECTIONS = 4
_SECRET = "whsec_of_the_benchmark"  # noqa: S105 - signs only its own events
_NOBODY = "http://127.0.0.1:9"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=_EVENTS, help="events to post (default: %(default)s)")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the rate and the p99 of acknowledgments, and how many of the events were stored."""
    InboxEvent.objects.filter(stripe_event_id__startswith="evt_bench_").delete()
    spent = _cpu_of_children()
    with override_settings(STRIPE_WEBHOOK_SECRETS=[_SECRET], STRIPE_API_BASE=_NOBODY), serving.served() as port:
        bodies = [_event(number) for number in range(options.events)]
        started = time.perf_counter()
        taken = _post_all(port, bodies)
        seconds = time.perf_counter() - started
    yield Figure("acknowledged", len(taken) / seconds, "/s", goal=at_least(150))
    yield Figure("acknowledgment, p50", latencies.percentile(taken, 50), "ms")
    yield Figure("acknowledgment, p99", latencies.percentile(taken, 99), "ms", goal=at_most(250))
    # What a busy machine cannot blur: one process can acknowledge as many as fit into a second of its CPU.
    yield Figure("CPU of an acknowledgment, start included", (_cpu_of_children() - spent) / len(taken) * 1000, "ms")
    stored = InboxEvent.objects.filter(stripe_event_id__startswith="evt_bench_").count()
    yield Figure("events stored", stored, "", goal=at_least(options.events))


def _cpu_of_children() -> float:
    """Return the seconds of CPU of the processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _post_all(port: int, bodies: Sequence[bytes]) -> list[float]:
    """Post every event once, over a few connections at once, and return the milliseconds of each."""
    shares = [bodies[place::_CONNECTIONS] for place in range(_CONNECTIONS)]
    taken: list[list[float]] = [[] for _ in shares]
    threads = [
        threading.Thread(target=_post, args=(port, share, kept)) for share, kept in zip(shares, taken, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [milliseconds for kept in taken for milliseconds in kept]


def _post(port: int, bodies: Sequence[bytes], taken: list[float]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for body in bodies:
        headers = {"Content-Type": "application/json", "Stripe-Signature": _signature(body)}
        started = time.perf_counter()
        connection.request("POST", "/stripe/webhooks/", body, headers)
        response = connection.getresponse()
        response.read()
        if response.status == 200:
            taken.append((time.perf_counter() - started) * 1000)
    connection.close()


def _signature(body: bytes) -> str:
    signed_at = str(int(time.time()))
    digest = hmac.new(_SECRET.encode(), signed_at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={signed_at},v1={digest}"


def _event(number: int) -> bytes:
    """Return an event as large as Stripe's own of an invoice with ten lines, some 20 kB."""
    line = {
        "object": "line_item",
        "amount": 1_234,
        "currency": "usd",
        "description": "Voice engine, 2,057.6 minutes of October 2026",
        "metadata": {"component": "voice", "note": "x" * 1_500},
    }
    lines = [{"id": f"il_{number}_{place}", **line} for place in range(10)]
    invoice: dict[str, Any] = {"id": f"in_{number}", "object": "invoice", "customer": f"cus_{number % 50}"}
    payload = {
        "id": f"evt_bench_{number}",
        "object": "event",
        "type": "invoice.updated",
        "api_version": settings.STRIPE_API_VERSION,
        "created": int(time.time()),
        "livemode": settings.STRIPE_LIVE_MODE,
        "data": {"object": {**invoice, "lines": {"data": lines}}},
    }
    return json.dumps(payload).encode()
