"""Which envelope a request's events came in, told by its content type and, for plain JSON, by its fields."""

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from django.http import HttpRequest

from usage import ingestion
from usage.api import bodies, cloud_events, encodings, lago_events
from usage.events import Event, EventAnswer

JSON = "application/json"
_TYPES = (cloud_events.BATCH, cloud_events.ONE, JSON)


class Envelope(Enum):
    """How events were sent, and so what their sender expects to be answered."""

    CLOUD_EVENTS = auto()
    LAGO_ONE = auto()
    LAGO_BATCH = auto()


class Reading(NamedTuple):
    """The events of a request; in place of those that are none, how they are answered."""

    envelope: Envelope
    told: Sequence[Event | EventAnswer]


def read(request: HttpRequest, body: bytes) -> Reading:
    """Return the events of a request, in whichever envelope. Raises Problem for a body that cannot be read."""
    bodies.require_type(request, *_TYPES)
    if request.content_type == JSON and cloud_events.in_headers(request):
        bodies.fields(body)
        return Reading(Envelope.CLOUD_EVENTS, [cloud_events.read_headers(request, body)])
    if request.content_type == JSON and bodies.is_object(body):
        return _plain_object(body)
    if request.content_type == cloud_events.ONE:
        bodies.fields(body)
        return Reading(Envelope.CLOUD_EVENTS, [cloud_events.read(0, body)])
    items = bodies.limited(bodies.items(body), "events")
    return Reading(Envelope.CLOUD_EVENTS, [cloud_events.read(index, item) for index, item in enumerate(items)])


def read_lago_batch(request: HttpRequest, body: bytes) -> Reading:
    """Return the events of a batch in Lago's shape. Raises Problem for a body that is none."""
    bodies.require_type(request, JSON)
    if not bodies.is_object(body):
        bodies.items(body)
        raise encodings.unreadable('Send {"events": [...]} and nothing else.')
    return _lago_batch(body)


def _plain_object(body: bytes) -> Reading:
    fields = bodies.fields(body)
    if fields.keys() == {"event"}:
        return Reading(Envelope.LAGO_ONE, [lago_events.read(0, fields["event"])])
    if fields.keys() == {"events"}:
        return _lago_batch(body)
    if "id" in fields or "type" in fields:
        return Reading(Envelope.CLOUD_EVENTS, [cloud_events.read(0, body)])
    reason = 'Send one CloudEvent, an array of them, or Lago\'s {"event": {...}} or {"events": [...]} and nothing else.'
    return Reading(Envelope.CLOUD_EVENTS, [EventAnswer(0, None, None, ingestion.REJECTED, reason=reason)])


def _lago_batch(body: bytes) -> Reading:
    items = bodies.limited(bodies.split(body, "events"), "events")
    return Reading(Envelope.LAGO_BATCH, [lago_events.read(index, item) for index, item in enumerate(items)])
