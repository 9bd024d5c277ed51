"""Stripe's test clocks: customers that live in a time of their own, which only moves when it is advanced."""

import asyncio
from typing import TYPE_CHECKING

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import StripeError, invalid
from billing_portal.sandbox.registry import operation, resource
from billing_portal.sandbox.store import Object

from . import cycles, deleted_customers

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

KIND = "test_helpers.test_clock"
PATH = "/v1/test_helpers/test_clocks"
resource(KIND, "clock", PATH, defaults={"status": "ready", "status_details": {}})

LIFETIME = 30 * 86400
MOST_INTERVALS = 2


@operation("POST", PATH)
def create(box: "Sandbox", call: generic.Call) -> Object:
    fields = box.overlay(KIND, call.params)
    return box.create(KIND, **fields, deletes_after=box.now() + LIFETIME)


@operation("POST", PATH + "/{test_clock}/advance")
def advance(box: "Sandbox", call: generic.Call) -> Object:
    """Forward only, two of its subscriptions' intervals at most; the answer comes before the work is done."""
    clock = box.get(KIND, call.ids["test_clock"])
    target = call.params["frozen_time"]
    if clock["status"] != "ready":
        raise StripeError("Test clock advancement underway - cannot perform modifications.", status=429,
                          code="test_clock_busy", type="invalid_request_error")  # fmt: skip
    if target <= clock["frozen_time"]:
        raise invalid("Cannot advance a test clock to a time in the past.", param="frozen_time")
    _check_distance(box, clock, target)
    details = {"advancing": {"target_frozen_time": target}}
    box.change(clock, status="advancing", status_details=details)
    box.tell(clock, "advancing")
    asyncio.get_running_loop().create_task(_advance(box, clock["id"], target))
    return clock


def _check_distance(box: "Sandbox", clock: Object, target: int) -> None:
    for subscription in box.store.where("subscription", test_clock=clock["id"]):
        interval, count = subscription["_interval"], subscription["_interval_count"]
        if target > cycles.boundary(clock["frozen_time"], interval, count, MOST_INTERVALS):
            raise invalid(
                "Cannot advance a test clock more than two intervals of the shortest subscription at a time.",
                param="frozen_time",
            )


async def _advance(box: "Sandbox", key: str, target: int) -> None:
    """Let the test clock's own agenda happen, then say that the clock is there."""

    def reach(instant: float) -> None:
        box.change(box.get(KIND, key), frozen_time=int(instant))

    assert box.timekeeper is not None
    await box.timekeeper.advance_test_clock(key, target, reach)
    clock = box.get(KIND, key)
    box.change(clock, frozen_time=target, status="ready", status_details={})
    box.tell(clock, "ready")
    box.commit()


@operation("DELETE", PATH + "/{test_clock}")
def delete(box: "Sandbox", call: generic.Call) -> Object:
    """A clock takes its customers with it."""
    clock = box.get(KIND, call.id)
    for customer in box.store.where("customer", test_clock=clock["id"]):
        if not customer.get("_deleted"):
            deleted_customers.delete(box, generic.Call(call.path, {"customer": customer["id"]}))
    generic.remove(box, clock)
    return {"id": clock["id"], "object": KIND, "deleted": True}
