"""Usage events in Lago's shape: `{"event": {…}}` and `{"events": […]}`, answered so that Lago's clients are content.

The subscription is the vendor's reference of the organization, the code the type of the event.
Source: getlago.com/docs/api-reference/events.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from usage import ingestion, instants, json_faults
from usage.api.cloud_events import Identifier, Subject
from usage.events import Event, EventAnswer, Terms

TERMS = Terms(id="transaction_id", type="code", subject="external_subscription_id", at="timestamp", data="properties")
_OF_CUSTOMER = TERMS._replace(subject="external_customer_id")
# No second since 1970 has more; what is longer is no instant, and too long to be reckoned with.
_MOST_DIGITS = 18
_IDS = uuid.UUID("6c3f0f4e-3a4b-5d0e-9d65-0f6b7a1c2e90")


class LagoEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event. `timestamp` is in seconds since 1970, as Lago has it, or RFC 3339; `properties` depend on the code."""

    transaction_id: Identifier
    code: Identifier
    external_subscription_id: Subject | None = None
    external_customer_id: Subject | None = None
    timestamp: int | float | str | None = None
    properties: dict[str, msgspec.Raw] | None = None


class LagoAnswer(msgspec.Struct, frozen=True):
    """An event as it was recorded. `lago_id` is made of the transaction's id: Lago's clients ask for one."""

    lago_id: Annotated[str, msgspec.Meta(extra_json_schema={"format": "uuid"})]
    transaction_id: str
    lago_customer_id: None
    lago_subscription_id: None
    external_subscription_id: str | None
    code: str
    timestamp: str
    properties: Any
    created_at: datetime


class LagoRecorded(msgspec.Struct, frozen=True):
    """The answer to one event."""

    event: LagoAnswer


class LagoBatchRecorded(msgspec.Struct, frozen=True):
    """The answer to a batch."""

    events: list[LagoAnswer]


class _Properties(msgspec.Struct, frozen=True):
    properties: msgspec.Raw = msgspec.Raw(b"{}")


class _Named(msgspec.Struct, frozen=True):
    transaction_id: str | None = None
    code: str | None = None


_decoder = msgspec.json.Decoder(LagoEvent)
_properties_decoder = msgspec.json.Decoder(_Properties)
_READING_FAILED = (msgspec.MsgspecError, ValueError, RecursionError)


def read(index: int, raw: bytes | msgspec.Raw) -> Event | EventAnswer:
    """Read one event; one that is none is answered as rejected."""
    try:
        event = _decoder.decode(raw)
        data = _properties_decoder.decode(raw).properties
    except msgspec.ValidationError as error:
        return _rejected(index, raw, *json_faults.of(error))
    except _READING_FAILED as error:
        return _rejected(index, raw, "", f"The item is not readable JSON: {error}.")
    subject, terms = event.external_subscription_id, TERMS
    if subject is None and event.external_customer_id is not None:
        subject, terms = event.external_customer_id, _OF_CUSTOMER
    if event.properties is None:
        data = msgspec.Raw(b"{}")
    return Event(index, event.transaction_id, event.code, subject, _instant(event.timestamp), data, terms)


def answers(told: Sequence[Event], *, now: datetime) -> list[LagoAnswer]:
    """Return recorded events as Lago returns them."""
    return [
        LagoAnswer(
            lago_id=str(uuid.uuid5(_IDS, f"{event.subject}\n{event.type}\n{event.id}")),
            transaction_id=event.id,
            lago_customer_id=None,
            lago_subscription_id=None,
            external_subscription_id=event.subject,
            code=event.type,
            timestamp=_shown(event.at, now),
            properties=event.data,
            created_at=now,
        )
        for event in told
    ]


def _instant(timestamp: float | str | None) -> int | str | None:
    """Return an instant as all others are written: seconds, also as a text, become whole milliseconds."""
    try:
        seconds = Decimal(str(timestamp))
    except ArithmeticError:
        return None if timestamp is None else str(timestamp)
    if not seconds.is_finite() or seconds.adjusted() > _MOST_DIGITS:
        return str(timestamp)
    return int(seconds * 1000)


def _shown(at: int | str | None, now: datetime) -> str:
    try:
        return (now if at is None else instants.parse(at)).isoformat()
    except ValueError:
        return str(at)


def _rejected(index: int, raw: bytes | msgspec.Raw, field: str, reason: str) -> EventAnswer:
    try:
        named = msgspec.json.decode(raw, type=_Named)
    except _READING_FAILED:
        named = _Named()
    return EventAnswer(index, named.transaction_id, named.code, ingestion.REJECTED, field or None, reason)
