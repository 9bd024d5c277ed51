"""Sums over meter events: what summaries show and invoices bill.

Aggregation is asynchronous: an event counts once the sandbox's clock has moved a moment past its receipt.
Events are kept by meter, customer and week, so that a sum touches only the weeks it covers.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from billing_portal.sandbox.store import Object

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

WEEK = 7 * 86400


def stream(meter: str, customer: str, timestamp: int) -> str:
    return f"{meter}:{customer}:{timestamp // WEEK}"


def windows(start: int, end: int, length: int) -> Iterator[tuple[int, int]]:
    """The range in pieces of a length, or as it is for length 0."""
    length = length or end - start
    for window_start in range(start, end, length):
        yield window_start, min(window_start + length, end)


def events(box: "Sandbox", meter: Object, customer: str, start: int, end: int) -> list[Object]:
    """Aggregated events stamped in ``[start, end)``, in order of their time."""
    owner = box.store.tables["customer"][customer]
    seen_until = (box.time_of(owner) if owner["test_clock"] else box.clock.exact()) - box.aggregation_seconds
    found = [
        event
        for week in range(start // WEEK, (end - 1) // WEEK + 1)
        for event in box.store.where("billing.meter_event", _stream=f"{meter['id']}:{customer}:{week}")
        if start <= event["timestamp"] < end and event["_received"] <= seen_until and not event.get("_canceled")
    ]
    return sorted(found, key=lambda event: event["timestamp"])


def total(box: "Sandbox", meter: Object, customer: str, start: int, end: int) -> int | None:
    """The meter's aggregate over a range, None if nothing was reported."""
    found = events(box, meter, customer, start, end)
    if not found:
        return None
    formula = meter["default_aggregation"]["formula"]
    if formula == "count":
        return len(found)
    if formula == "last":
        return int(found[-1]["_value"])
    return sum(int(event["_value"]) for event in found)
