"""Events that tell of a call which is over: their data is a call object, completed by what the envelope says.

What the data lacks, the envelope fills in: the event's id names the call, its subject the organization, and its time
the end of a call that has no start, which is then its length before that. What the data says itself stands; only a
subject that names another organization is refused.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from accounts.models import Organization
from usage import events, ingestion, instants
from usage.call_objects import MAX_DURATION_MS
from usage.events import Event, EventAnswer

# An event that tells of an ended call need not say so twice.
_STATUS = "ended"


class _Given(msgspec.Struct, frozen=True):
    """What of the data the envelope might fill in; whether it is of the right type, the call's reader says.

    A null stands for nothing only where a call object may have it.
    """

    call_id: Any = msgspec.UNSET
    organization: Any = None
    call_status: Any = msgspec.UNSET
    start_timestamp: Any = msgspec.UNSET
    end_timestamp: Any = None
    duration_ms: Any = None
    source_sequence: Any = None


class _Refused(Exception):
    """The event cannot be turned into a call; `field` is one of the envelope."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


class _Item(msgspec.Struct, frozen=True):
    """A call object made of an event, and which field of the envelope its filled-in fields came from."""

    event: Event
    raw: bytes
    origins: dict[str, str]


_given_decoder = msgspec.json.Decoder(_Given)
_encoder = msgspec.json.Encoder()


def record(told: Sequence[Event], *, now: datetime, scope: Organization | None) -> list[EventAnswer]:
    """Record the calls that events tell of, as `ingestion.record` does; errors name fields of the events."""
    answers, items = [], []
    for event in told:
        try:
            items.append(_item(event))
        except _Refused as error:
            answers.append(events.rejected(event, error.field, error.reason))
    recorded = ingestion.record([item.raw for item in items], now=now, scope=scope)
    return answers + [_answer(item, answer) for item, answer in zip(items, recorded, strict=True)]


def _item(event: Event) -> _Item:
    """Return the call object of an event. Raises _Refused."""
    data = bytes(event.data)
    if not data.startswith(b"{"):
        raise _Refused(event.terms.data, "Expected an object: the call.")
    try:
        given = _given_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _Item(event, data, {})  # The call's reader says what is wrong with it.
    added, origins = _filled_in(event, given)
    if not added:
        return _Item(event, data, origins)
    comma = b"" if data[1:-1].isspace() or data == b"{}" else b","
    return _Item(event, data[:-1] + comma + _encoder.encode(added)[1:], origins)


def _filled_in(event: Event, given: _Given) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields to add to the data, and where each came from."""
    added: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if given.call_id is msgspec.UNSET:
        added["call_id"], origins["call_id"] = event.id, event.terms.id
    if given.organization is None:
        origins["organization"] = event.terms.subject
        if event.subject is not None:
            added["organization"] = event.subject
    elif event.subject not in (None, given.organization):
        raise _Refused(event.terms.subject, f"It is {event.subject}, but the data names another organization.")
    if event.sequence is not None and given.source_sequence is None:
        added |= {"source": event.source, "source_sequence": event.sequence}
    if given.call_status is msgspec.UNSET:
        added["call_status"] = _STATUS
    if given.start_timestamp is msgspec.UNSET and (span := _span(event, given)):
        added |= span
        origins |= dict.fromkeys(span, _end_field(event, given))
    return added, origins


def _span(event: Event, given: _Given) -> dict[str, str]:
    """Return start and end of a call without a start: it ended at its end, or at the event's time."""
    end = event.at if given.end_timestamp is None else given.end_timestamp
    duration_ms = given.duration_ms
    if not isinstance(end, int | str) or not isinstance(duration_ms, int) or not 0 <= duration_ms <= MAX_DURATION_MS:
        return {}
    try:
        ended_at = instants.parse(end)
    except ValueError as error:
        raise _Refused(_end_field(event, given), str(error)) from None
    started_at = ended_at - timedelta(milliseconds=duration_ms)
    return {"start_timestamp": started_at.isoformat(), "end_timestamp": ended_at.isoformat()}


def _end_field(event: Event, given: _Given) -> str:
    return event.terms.at if given.end_timestamp is None else f"{event.terms.data}.end_timestamp"


def _answer(item: _Item, answer: ingestion.Answer) -> EventAnswer:
    event = item.event
    return EventAnswer(
        index=event.index,
        id=event.id,
        type=event.type,
        status=answer.status,
        field=_field(item, answer),
        reason=answer.reason,
        call_id=answer.call_id,
        rated=answer.rated,
    )


def _field(item: _Item, answer: ingestion.Answer) -> str | None:
    """Return the field of the event that an answer is about."""
    if answer.reason is None:
        return None
    if answer.field is None:
        return item.event.terms.data
    return item.origins.get(answer.field) or f"{item.event.terms.data}.{answer.field}"
