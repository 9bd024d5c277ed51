"""Billing meters and the summaries of what was reported to them."""

from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.registry import operation, resource
from billing_portal.sandbox.rendering import page
from billing_portal.sandbox.store import Object

from . import usage

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

resource("billing.meter", "mtr", "/v1/billing/meters", defaults={"status": "active"})

WINDOWS = {"hour": 3600, "day": 86400}


@operation("POST", "/v1/billing/meters")
def create(box: "Sandbox", call: generic.Call) -> Object:
    params = call.params
    for meter in box.store.where("billing.meter", event_name=params["event_name"]):
        if meter["status"] == "active":
            raise invalid(
                f"There is already an active meter with the event name `{params['event_name']}`.",
                param="event_name",
                code="resource_already_exists",
            )
    fields = box.overlay("billing.meter", params)
    fields.setdefault("customer_mapping", {"event_payload_key": "stripe_customer_id", "type": "by_id"})
    fields.setdefault("value_settings", {"event_payload_key": "value"})
    return box.create("billing.meter", **fields, updated=box.now())


@operation("POST", "/v1/billing/meters/{id}")
def update(box: "Sandbox", call: generic.Call) -> Object:
    meter = box.get("billing.meter", call.id)
    box.change(meter, tell=True, **box.overlay("billing.meter", call.params, meter), updated=box.now())
    return meter


@operation("POST", "/v1/billing/meters/{id}/deactivate")
def deactivate(box: "Sandbox", call: generic.Call) -> Object:
    meter = box.get("billing.meter", call.ids["id"])
    transitions = {"deactivated_at": box.now()}
    box.change(meter, status="inactive", status_transitions=transitions, updated=box.now())
    return meter


@operation("POST", "/v1/billing/meters/{id}/reactivate")
def reactivate(box: "Sandbox", call: generic.Call) -> Object:
    meter = box.get("billing.meter", call.ids["id"])
    box.change(meter, status="active", status_transitions={"deactivated_at": None}, updated=box.now())
    return meter


@operation("GET", "/v1/billing/meters/{id}/event_summaries")
def summaries(box: "Sandbox", call: generic.Call) -> Object:
    """What has been aggregated between two instants; a window without an event has no summary."""
    meter = box.get("billing.meter", call.ids["id"])
    params = call.params
    box.get("customer", params["customer"], param="customer")
    window = WINDOWS.get(params.get("value_grouping_window", ""), 0)
    start, end = params["start_time"], params["end_time"]
    _check_bounds(start, end, window)
    found = []
    for window_start, window_end in usage.windows(start, end, window):
        total = usage.total(box, meter, params["customer"], window_start, window_end)
        if total is not None:
            found.append(_summary(box, meter, params["customer"], window_start, window_end, total))
    return page(box, found[::-1], params, call.path)


def _check_bounds(start: int, end: int, window: int) -> None:
    step = window or 60
    for name, instant in (("start_time", start), ("end_time", end)):
        if instant % step:
            unit = {60: "minute", 3600: "hour", 86400: "day"}[step]
            raise invalid(f"The {name} must be aligned with {unit} boundaries.", param=name)
    if end <= start:
        raise invalid("The end_time must be after the start_time.", param="end_time")


def _summary(box: "Sandbox", meter: Object, customer: str, start: int, end: int, total: int) -> dict[str, Any]:
    """The id is made from what is summed, so that paging over summaries works."""
    key = f"mtrusg_test_{meter['id'][-8:]}{customer[-8:]}{start}x{end}"
    return box.build(
        "billing.meter_event_summary",
        id=key,
        _key=key,
        aggregated_value=total,
        start_time=start,
        end_time=end,
        meter=meter["id"],
    )
