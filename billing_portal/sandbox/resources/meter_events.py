"""Meter events: whole numbers, once per identifier, one call at a time for a customer and meter.

Rules: docs.stripe.com/billing/subscriptions/usage-based/recording-usage-api. What concerns only the payload
(no such customer, no such meter) Stripe finds out later and reports in a thin event.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import StripeError, invalid
from billing_portal.sandbox.registry import GATES, operation, resource
from billing_portal.sandbox.store import Object

from . import usage

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

resource("billing.meter_event", "mtrevt", key="_id")
resource("billing.meter_event_adjustment", "mtradj", key="_id")

WHOLE = re.compile(r"[+-]?\d{1,15}$")
OLDEST = 35 * 86400
FURTHEST = 5 * 60
REMEMBERED = 24 * 3600
REPORTED_AFTER = 2
CALL_SECONDS = 0.004


@contextlib.asynccontextmanager
async def one_at_a_time(box: "Sandbox", call: generic.Call) -> AsyncIterator[None]:
    """Hold the lock for as long as Stripe takes; a second call meanwhile is refused."""
    payload = call.params.get("payload") or {}
    key = (call.params.get("event_name"), str(sorted(payload.items())[:1]) if not payload else _owner(box, call))
    busy: set[Any] = box.derived.setdefault("busy meters", set())
    if key in busy:
        raise StripeError(
            "This object cannot be accessed right now because another API request or Stripe process is currently"
            " accessing it. If you see this error intermittently, retry the request.",
            status=429,
            code="lock_timeout",
        )
    busy.add(key)
    try:
        await asyncio.sleep(CALL_SECONDS)
        yield
    finally:
        busy.discard(key)


GATES["POST", "/v1/billing/meter_events"] = one_at_a_time


def _owner(box: "Sandbox", call: generic.Call) -> str | None:
    meter = _meter(box, call.params["event_name"])
    key = meter["customer_mapping"]["event_payload_key"] if meter else "stripe_customer_id"
    owner = call.params["payload"].get(key)
    return str(owner) if owner else None


def _meter(box: "Sandbox", event_name: str) -> Object | None:
    """The meter of that name, an active one before an archived one."""
    found = box.store.where("billing.meter", event_name=event_name)
    return min(found, key=lambda meter: meter["status"] != "active", default=None)


@operation("POST", "/v1/billing/meter_events")
def create(box: "Sandbox", call: generic.Call) -> Object:
    event = record(box, call.params)
    return {k: v for k, v in event.items() if not k.startswith("_")}


def record(box: "Sandbox", params: dict[str, Any], *, kind: str = "billing.meter_event") -> Object:
    """Take one event in. The checks that need no other object are made at once."""
    owner = _owner_of(box, params)
    now = box.time_of(owner or {})
    received = now - 1 if owner and owner["test_clock"] else box.clock.exact()
    timestamp = params.get("timestamp", now)
    if timestamp < now - OLDEST:
        raise invalid("The timestamp is too far in the past: at most 35 days.", param="timestamp",
                      code="timestamp_too_far_in_past")  # fmt: skip
    if timestamp > now + FURTHEST:
        raise invalid("The timestamp is in the future: at most 5 minutes.", param="timestamp",
                      code="timestamp_in_future")  # fmt: skip
    identifier = params.get("identifier") or box.new_id("mei", 32)
    for earlier in box.store.where("billing.meter_event", identifier=identifier):
        if now - earlier["created"] < REMEMBERED:
            raise invalid(f"An event already exists with identifier {identifier}.", param="identifier")
    value, error, stream = _read(box, params, timestamp)
    event = box.create(
        "billing.meter_event",
        emit=False,
        _id=box.new_id("mtrevt"),
        event_name=params["event_name"],
        payload=params["payload"],
        identifier=identifier,
        timestamp=timestamp,
        _value=value,
        _error=error,
        _stream=stream,
        _received=received,
    )
    if error:
        box.agenda.put("meter_errors.report", params["event_name"], box.now() + REPORTED_AFTER)
    else:
        _check_alerts(box, event)
    return event


def _owner_of(box: "Sandbox", params: dict[str, Any]) -> Object | None:
    """The customer named in a payload, if there is such a customer."""
    meter = _meter(box, params["event_name"])
    key = meter["customer_mapping"]["event_payload_key"] if meter else "stripe_customer_id"
    return box.store.get("customer", params["payload"].get(key) or "")


def _check_alerts(box: "Sandbox", event: Object) -> None:
    meter, customer, _ = event["_stream"].split(":")
    box.store.change(event, _meter=meter, _owner=customer)
    if box.store.all("billing.alert"):
        box.agenda.put("alerts.check", f"{meter}|{customer}", box.now())


def _read(box: "Sandbox", params: dict[str, Any], timestamp: int) -> tuple[int, str | None, str | None]:
    """The event's value, what is wrong with it, and the stream it is summed in."""
    payload, meter = params["payload"], _meter(box, params["event_name"])
    if meter is None:
        return 0, "no_meter", None
    if meter["status"] != "active":
        return 0, "archived_meter", None
    value = "1"
    if meter["default_aggregation"]["formula"] != "count":
        name = meter["value_settings"]["event_payload_key"]
        if name not in payload:
            raise invalid(f"The payload lacks the value key `{name}`.", param=f"payload[{name}]",
                          code="meter_event_value_not_found")  # fmt: skip
        value = payload[name]
        if not WHOLE.match(value):
            raise invalid(f"Invalid value {value}: a whole number of up to 15 digits.", param=f"payload[{name}]",
                          code="meter_event_invalid_value")  # fmt: skip
    owner = payload.get(meter["customer_mapping"]["event_payload_key"])
    if not owner:
        return int(value), "meter_event_no_customer_defined", None
    customer = box.store.get("customer", owner)
    if customer is None or customer.get("_deleted"):
        return int(value), "meter_event_customer_not_found", None
    return int(value), None, usage.stream(meter["id"], owner, timestamp)


@operation("POST", "/v1/billing/meter_event_adjustments")
def adjust(box: "Sandbox", call: generic.Call) -> Object:
    made = cancel(box, call.params)
    return {k: v for k, v in made.items() if not k.startswith("_")}


def cancel(box: "Sandbox", params: dict[str, Any]) -> Object:
    """Cancel one event under a day old; an invoice that is finalised stays as it is."""
    identifier = (params.get("cancel") or {}).get("identifier")
    if not identifier:
        raise invalid("Missing required param: cancel[identifier].", param="cancel[identifier]",
                      code="parameter_missing")  # fmt: skip
    found = box.store.where("billing.meter_event", identifier=identifier, event_name=params["event_name"])
    recent = [event for event in found if box.now() - event["created"] < REMEMBERED]
    if not recent:
        raise invalid(
            f"No event with identifier {identifier} was received in the last 24 hours.",
            param="cancel[identifier]",
            code="resource_missing",
        )
    box.store.change(recent[-1], _canceled=True)
    return box.create(
        "billing.meter_event_adjustment",
        emit=False,
        _id=box.new_id("mtradj"),
        cancel={"identifier": identifier},
        event_name=params["event_name"],
        status="pending",
        type="cancel",
    )
