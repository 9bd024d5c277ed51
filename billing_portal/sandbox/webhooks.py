"""Delivery of events to webhook endpoints: signed, at least once, retried with back-off, unordered."""

import asyncio
import hashlib
import hmac
import json
import random
import time
from typing import TYPE_CHECKING, Any

import httpx

from .registry import job
from .rendering import render
from .store import Object

if TYPE_CHECKING:
    from .engine import Sandbox

WORKERS = 8
ATTEMPTS = 20
LONGEST_WAIT = 120.0
PATIENCE = 20.0
FLUSH_ATTEMPTS = 3


def signature(secret: str, body: bytes, instant: int) -> str:
    """Stripe's header: the wall-clock second and HMAC-SHA256 over ``second.body``."""
    digest = hmac.new(secret.encode(), f"{instant}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={instant},v1={digest}"


class Webhooks:
    """The queue between recorded events and the endpoints that asked for them."""

    def __init__(self, box: "Sandbox") -> None:
        self._box = box
        self.extra_endpoints: list[Object] = []
        self._prepared: list[Object] = []
        self._queue: asyncio.Queue[str] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None
        self._muted = False
        self._number = 0
        self.delivered = 0

    # Within a transaction

    def prepare(self, event: Object) -> int:
        """Note one delivery per endpoint that wants the event; they go out when the change is kept."""
        if self._muted:
            return 0
        endpoints = [e for e in self._endpoints() if _wants(e, event["type"])]
        for endpoint in endpoints:
            mood = self._box.faults.mood
            for repeat, delay in enumerate(mood.delays() if mood else [0.0]):
                self._note(event, endpoint, repeat, delay)
        return len(endpoints)

    def prepare_thin(self, event: Object) -> None:
        """Thin events have subscribers of their own; the command line's endpoint gets both."""
        found = [
            {"id": d["id"], "enabled_events": d["enabled_events"]}
            for d in self._box.store.all("v2.core.event_destination")
        ]
        for endpoint in [*self.extra_endpoints, *found]:
            if _wants(endpoint, event["type"]):
                self._note(event, endpoint)

    def _note(self, event: Object, endpoint: Object, repeat: int = 0, delay: float = 0.0) -> None:
        """Note that an event is to be delivered to an endpoint: now, or once the clock is `delay` seconds further."""
        self._number += 1
        key = f"{event['id']}:{endpoint['id']}" + (f":{repeat}" if repeat else "")
        record = {
            "event": event["id"], "endpoint": endpoint["id"], "attempts": 0, "error": None,
            "number": self._number, "is_repeat": bool(repeat), "is_delayed": delay > 0, "due": self._box.now() + delay,
        }  # fmt: skip
        stored = self._box.store.insert("_delivery", key, record)
        if delay:
            self._box.agenda.put("webhook.deliver", key, record["due"])
        else:
            self._prepared.append(stored)

    def enqueue(self, key: str) -> None:
        """Deliver what was put off: its time has come."""
        if (record := self._box.store.get("_delivery", key)) is not None:
            self._prepared.append(record)

    def release(self) -> None:
        keys = [record["_key"] for record in self._prepared]
        self._prepared.clear()
        if self._queue is not None:
            for key in keys:
                self._queue.put_nowait(key)

    def mute(self, muted: bool) -> None:
        """While muted, events (of an invoice that is only previewed) go nowhere."""
        self._muted = muted

    def forget(self) -> None:
        self._prepared.clear()

    def acknowledged(self, event_id: str) -> bool:
        """Whether every endpoint that was told of the event has answered 2xx."""
        return all(record["is_repeat"] for record in self._box.store.where("_delivery", event=event_id))

    def _endpoints(self) -> list[Object]:
        stored = [
            {"id": e["id"], "url": e["url"], "secret": e["_secret"], "enabled_events": e["enabled_events"]}
            for e in self._box.store.all("webhook_endpoint")
            if e["status"] == "enabled" and not e.get("_deleted")
        ]
        return [*self.extra_endpoints, *stored]

    def _receivers(self) -> list[Object]:
        """Everyone a delivery may be for."""
        thin = [
            {"id": d["id"], "url": d["webhook_endpoint"]["url"], "secret": d["_secret"]}
            for d in self._box.store.all("v2.core.event_destination")
        ]
        return [*self._endpoints(), *thin]

    def add_endpoint(self, url: str, secret: str) -> None:
        """An endpoint named on the command line; it gets every event and survives a reset."""
        name = f"command-line-{len(self.extra_endpoints) + 1}"
        self.extra_endpoints.append({"id": name, "url": url, "secret": secret, "enabled_events": ["*"]})

    # Delivering

    async def start(self) -> None:
        self._client = httpx.AsyncClient(timeout=PATIENCE, trust_env=False)
        self._queue = asyncio.Queue()
        for record in self._due():
            self._queue.put_nowait(record["_key"])
        for _ in range(WORKERS):
            self._spawn(self._work())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        assert self._queue is not None
        while True:
            key = await self._queue.get()
            await self._hold_back()
            if not await self._attempt(key) and (record := self._box.store.get("_delivery", key)):
                wait = min(LONGEST_WAIT, 0.5 * 2 ** record["attempts"])
                if record["attempts"] < ATTEMPTS:
                    self._spawn(self._requeue(key, wait))

    async def _requeue(self, key: str, wait: float) -> None:
        assert self._queue is not None
        await asyncio.sleep(wait)
        self._queue.put_nowait(key)

    async def _hold_back(self) -> None:
        faults = self._box.faults.webhooks
        wait = float(faults.get("delay_seconds", 0))
        if faults.get("reorder"):
            wait += random.uniform(0, 0.3)  # noqa: S311 -- shuffles deliveries, guards nothing
        if wait:
            await asyncio.sleep(wait)

    async def _attempt(self, key: str) -> bool:
        """Send one delivery once; true when nothing is left to do about it."""
        store = self._box.store
        record = store.get("_delivery", key)
        if record is None or record.get("sending"):
            return True
        endpoint = next((e for e in self._receivers() if e["id"] == record["endpoint"]), None)
        event = store.find(record["event"])
        if endpoint is None or event is None or self._box.faults.take_drop():
            self._settle(record, event)
            return True
        record["sending"] = True
        error = await self._post(endpoint, event)
        if error is None and self._box.faults.webhooks.get("duplicate"):
            await self._post(endpoint, event)
        record.pop("sending", None)
        if store.get("_delivery", key) is not record:
            return True
        if error is None:
            self._settle(record, event)
            self.delivered += 1
            if self._box.faults.mood:
                self._box.faults.mood.note_delivery(record)
            return True
        record["attempts"] += 1
        record["error"] = error
        return False

    def _settle(self, record: Object, event: Object | None) -> None:
        store = self._box.store
        store.remove(record)
        if event is not None:
            store.change(event, _acknowledged_at=self._box.now())
        if event is not None and "pending_webhooks" in event:
            store.change(event, pending_webhooks=max(0, event["pending_webhooks"] - 1))
        store.commit()

    async def _post(self, endpoint: Object, event: Object) -> str | None:
        """None when the endpoint answered 2xx, else what went wrong. Signed anew with the wall clock."""
        assert self._client is not None
        shown = render(self._box, event)
        if event["object"] == "v2.core.event":
            shown.pop("data", None)  # a thin event leaves the details to be fetched
        body = json.dumps(shown).encode()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": signature(endpoint["secret"], body, int(time.time())),
        }
        try:
            response = await self._client.post(endpoint["url"], content=body, headers=headers)
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}"
        return None if response.is_success else f"HTTP {response.status_code}"

    async def flush(self, timeout: float = 60.0) -> dict[str, Any]:
        """Wait until everything is delivered, or has been refused three times just now; say what is left."""
        deadline = time.monotonic() + timeout
        refusals: dict[str, int] = {}
        while time.monotonic() < deadline:
            due = self._due()
            pending = [r for r in due if not r.get("sending")]
            stuck = [r for r in pending if refusals.get(r["_key"], 0) >= FLUSH_ATTEMPTS]
            if len(stuck) == len(due):
                break
            for record in [r for r in pending if r["attempts"] and r not in stuck][:50]:
                if not await self._attempt(record["_key"]):
                    refusals[record["_key"]] = refusals.get(record["_key"], 0) + 1
            await asyncio.sleep(0.01)
        return {"delivered": self.delivered, "undelivered": [self._describe(record) for record in self._due()]}

    def _due(self) -> list[Object]:
        """Deliveries that are not put off to a later instant of the clock."""
        now = self._box.clock.exact()
        return [record for record in self._box.store.all("_delivery") if record.get("due", 0) <= now]

    def describe_pending(self) -> list[dict[str, Any]]:
        return [self._describe(record) for record in self._box.store.all("_delivery")]

    def _describe(self, record: Object) -> dict[str, Any]:
        event = self._box.store.find(record["event"]) or {}
        urls = {e["id"]: e["url"] for e in self._receivers()}
        return {
            "event": record["event"],
            "type": event.get("type"),
            "url": urls.get(record["endpoint"]),
            "attempts": record["attempts"],
            "error": record["error"],
        }


@job("webhook.deliver")
def deliver(box: "Sandbox", key: str) -> None:
    """Let go of a delivery that a mood put off."""
    box.webhooks.enqueue(key)


def _wants(endpoint: Object, event_type: str) -> bool:
    return "*" in endpoint["enabled_events"] or event_type in endpoint["enabled_events"]
