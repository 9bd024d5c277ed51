"""Meter events by Stripe's v2 API: one at a time, or a hundred through a session; and the thin events about bad ones.

A thin event says only what happened to which object; it goes to event destinations, and to the endpoint named on
the command line.
"""

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import StripeError, invalid
from billing_portal.sandbox.registry import PUBLIC, job, operation, resource
from billing_portal.sandbox.rendering import render
from billing_portal.sandbox.store import Object

from . import meter_events

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

SESSION, EVENT, DESTINATION = "v2.billing.meter_event_session", "v2.core.event", "v2.core.event_destination"
resource(SESSION, "mes")
resource(EVENT, "evt")
resource(DESTINATION, "ed")

SESSION_SECONDS = 15 * 60
MOST = 100
PUBLIC.add(("POST", "/v2/billing/meter_event_stream"))


def instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        raise invalid(f"Invalid timestamp: {text}", param="timestamp", code="invalid_timestamp") from None


@operation("POST", "/v2/billing/meter_event_session")
def open_session(box: "Sandbox", call: generic.Call) -> Object:
    token = box.new_id("ek_test", 40)
    session = box.create(
        SESSION,
        emit=False,
        authentication_token=token,
        created=instant(box.now()),
        expires_at=instant(box.now() + SESSION_SECONDS),
        _ends=box.now() + SESSION_SECONDS,
    )
    box.change(session, _token=token)
    return session


@operation("POST", "/v2/billing/meter_event_stream")
def stream(box: "Sandbox", call: generic.Call) -> Object:
    """Up to a hundred events; all checks that need more than the request come later."""
    found = box.store.where(SESSION, _token=call.key)
    if not found or found[0]["_ends"] <= box.now():
        raise StripeError(
            "The session has expired: open another.", status=401, code="billing_meter_event_session_expired"
        )
    events = call.params["events"]
    if not 1 <= len(events) <= MOST:
        raise invalid(f"Between 1 and {MOST} events can be sent at once.", param="events")
    for event in events:
        _record(box, event)
    return {}


@operation("POST", "/v2/billing/meter_events")
def create(box: "Sandbox", call: generic.Call) -> Object:
    event = _record(box, call.params)
    return {
        "object": "v2.billing.meter_event",
        "created": instant(event["created"]),
        "event_name": event["event_name"],
        "identifier": event["identifier"],
        "livemode": False,
        "payload": event["payload"],
        "timestamp": instant(event["timestamp"]),
    }


def _record(box: "Sandbox", params: dict[str, Any]) -> Object:
    given = dict(params)
    if "timestamp" in given:
        given["timestamp"] = seconds(given["timestamp"])
    return meter_events.record(box, given)


@operation("POST", "/v2/billing/meter_event_adjustments")
def adjust(box: "Sandbox", call: generic.Call) -> Object:
    made = meter_events.cancel(box, call.params)
    return {
        "object": "v2.billing.meter_event_adjustment",
        "id": made["_key"],
        "cancel": call.params["cancel"],
        "created": instant(box.now()),
        "event_name": made["event_name"],
        "livemode": False,
        "status": "pending",
        "type": "cancel",
    }


# Thin events


@job("meter_errors.report")
def report(box: "Sandbox", event_name: str) -> None:
    """One report for the bad events of one name since the last."""
    bad = [e for e in box.store.where("billing.meter_event", event_name=event_name) if e.get("_error")]
    bad = [e for e in bad if not e.get("_reported")]
    if not bad:
        return
    for event in bad:
        box.store.change(event, _reported=True)
    meter = next(iter(box.store.where("billing.meter", event_name=event_name)), None)
    related = (
        {"id": meter["id"], "type": "billing.meter", "url": f"/v1/billing/meters/{meter['id']}"} if meter else None
    )
    name = "v1.billing.meter.error_report_triggered" if meter else "v1.billing.meter.no_meter_found"
    tell(box, name, related, _summary(bad))


def _summary(bad: list[Object]) -> Object:
    counts = Counter(event["_error"] for event in bad)
    types = [
        {
            "code": code,
            "error_count": count,
            "sample_errors": [
                {"error_message": code.replace("_", " "), "request": {"identifier": event["identifier"]}}
                for event in bad
                if event["_error"] == code
            ][:5],
        }
        for code, count in counts.items()
    ]
    return {
        "developer_message_summary": f"There {'is' if len(bad) == 1 else 'are'} {len(bad)} invalid event(s)",
        "reason": {"error_count": len(bad), "error_types": types},
        "validation_start": instant(min(event["created"] for event in bad)),
        "validation_end": instant(max(event["created"] for event in bad) + 1),
    }


def tell(box: "Sandbox", name: str, related: Object | None, data: Object) -> Object:
    """Record a thin event and send its head to whoever asked for it."""
    fields: dict[str, Any] = {"type": name, "data": data, "created": instant(box.now())}
    if related:
        fields["related_object"] = related
    event = box.create(EVENT, emit=False, **fields)
    box.webhooks.prepare_thin(event)
    return event


@operation("GET", "/v2/core/events/{id}")
def retrieve(box: "Sandbox", call: generic.Call) -> Object:
    return box.get(EVENT, call.id)


@operation("GET", "/v2/core/events")
def list_events(box: "Sandbox", call: generic.Call) -> Object:
    found = [render(box, event) for event in box.store.all(EVENT)[::-1]]
    if wanted := call.params.get("object_id"):
        found = [event for event in found if (event.get("related_object") or {}).get("id") == wanted]
    return {"data": found[: int(call.params.get("limit", 20))]}


@operation("POST", "/v2/core/event_destinations")
def create_destination(box: "Sandbox", call: generic.Call) -> Object:
    params = call.params
    if params["type"] != "webhook_endpoint" or params["event_payload"] != "thin":
        raise StripeError("The sandbox sends thin events to webhook endpoints only", status=501, type="api_error")
    generic.require(params, "webhook_endpoint")
    secret = box.new_id("whsec", 32)
    url = params["webhook_endpoint"]["url"]
    return box.create(
        DESTINATION,
        emit=False,
        created=instant(box.now()),
        updated=instant(box.now()),
        description=params.get("description", ""),
        enabled_events=params["enabled_events"],
        event_payload="thin",
        metadata=params.get("metadata") or {},
        name=params["name"],
        status="enabled",
        type="webhook_endpoint",
        webhook_endpoint={"signing_secret": secret, "url": url},
        _secret=secret,
    )
