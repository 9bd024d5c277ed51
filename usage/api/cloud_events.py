"""CloudEvents 1.0 over HTTP, as OpenMeter's clients and others send them: one as JSON, a batch, or one in headers.

Sources: cloudevents.io, JSON event format and HTTP protocol binding 1.0.2; openmeter.io, `POST /api/v1/events`.
"""

import base64
import binascii
from typing import Annotated
from urllib.parse import unquote

import msgspec
from django.http import HttpRequest

from usage import events, ingestion, json_faults
from usage.events import Event, EventAnswer, Terms

ONE, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
TERMS = Terms(id="id", type="type", subject="subject", at="time", data="data")
_IN_HEADERS = Terms(id="ce-id", type="ce-type", subject="ce-subject", at="ce-time", data="data")
_VERSION = "1.0"
_LONGEST_SOURCE, _LONGEST_NUMBER = 64, 15

Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Subject = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event. `subject` is the vendor's reference of the organization, `time` when it happened; `data` depends on
    the type. `sequence`, of the Sequence extension, is its number among the events of its `source` for that
    organization: whole, without a gap, so that a missing one is seen.
    """

    id: Identifier
    type: Identifier
    specversion: str = _VERSION
    source: str | None = None
    subject: Subject | None = None
    time: str | None = None
    sequence: str | int | None = None
    datacontenttype: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data_base64: str | msgspec.UnsetType = msgspec.UNSET


class _Named(msgspec.Struct, frozen=True):
    """As much of a wrong event as tells which one it was."""

    id: str | None = None
    type: str | None = None


_decoder = msgspec.json.Decoder(CloudEvent)
_any_decoder = msgspec.json.Decoder()
_READING_FAILED = (msgspec.MsgspecError, ValueError, RecursionError)


def read(index: int, raw: bytes | msgspec.Raw) -> Event | EventAnswer:
    """Read one event as JSON; one that is none is answered as rejected."""
    try:
        return _event(index, _decoder.decode(raw), TERMS)
    except msgspec.ValidationError as error:
        return _rejected(index, raw, *json_faults.of(error))
    except _READING_FAILED as error:
        return _rejected(index, raw, "", f"The item is not readable JSON: {error}.")


def in_headers(request: HttpRequest) -> bool:
    """Say whether the request carries an event's attributes as headers, and its data as the body."""
    return "ce-specversion" in request.headers


def read_headers(request: HttpRequest, body: bytes) -> Event | EventAnswer:
    """Read the event of a request in binary mode."""
    attributes = {
        name: unquote(request.headers[f"ce-{name}"])
        for name in ("id", "type", "specversion", "source", "subject", "time", "sequence")
        if f"ce-{name}" in request.headers
    }
    try:
        event = msgspec.convert(attributes, CloudEvent)
    except msgspec.ValidationError as error:
        field, reason = json_faults.of(error)
        named = (attributes.get("id"), attributes.get("type"))
        return EventAnswer(0, *named, ingestion.REJECTED, f"ce-{field}", reason)
    data = msgspec.Raw(body.strip(b" \t\r\n"))
    return _event(0, msgspec.structs.replace(event, data=data), _IN_HEADERS)


def _event(index: int, event: CloudEvent, terms: Terms) -> Event | EventAnswer:
    told = Event(index, event.id, event.type, event.subject, event.time, msgspec.Raw(), terms, *_numbered(event))
    if event.specversion != _VERSION:
        return events.rejected(told, "specversion", f"Expected {_VERSION}.")
    if event.data_base64 is msgspec.UNSET:
        return told if event.data is msgspec.UNSET else msgspec.structs.replace(told, data=event.data)
    if event.data is not msgspec.UNSET:
        return events.rejected(told, "data_base64", "An event has data or data_base64, not both.")
    try:
        text = base64.b64decode(event.data_base64, validate=True)
        _any_decoder.decode(text)
    except (binascii.Error, *_READING_FAILED):
        return events.rejected(told, "data_base64", "Expected JSON in base64.")
    return msgspec.structs.replace(told, data=msgspec.Raw(text.strip(b" \t\r\n")))


def _numbered(event: CloudEvent) -> tuple[str, int | None]:
    """Return the source and the event's number there; none where they are not such as `completeness` counts by."""
    source, number = event.source or "", str(event.sequence)
    is_whole = number.isascii() and number.isdecimal() and len(number) <= _LONGEST_NUMBER
    return (source, int(number)) if is_whole and 0 < len(source) <= _LONGEST_SOURCE else ("", None)


def _rejected(index: int, raw: bytes | msgspec.Raw, field: str, reason: str) -> EventAnswer:
    try:
        named = msgspec.json.decode(raw, type=_Named)
    except _READING_FAILED:
        named = _Named()
    return EventAnswer(index, named.id, named.type, ingestion.REJECTED, field or None, reason)
