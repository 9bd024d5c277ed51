"""Events about conversations, as envelopes carry them: the type says what happened, the data in which conversation.

What the data lacks, the envelope fills in: the event's id, the organization (its subject) and when it happened.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from accounts.models import Organization
from usage import events
from usage.events import Event, EventAnswer
from usage.outcomes import recording
from usage.outcomes.event_items import KINDS

PREFIX = "conversation."
TYPES = [f"{PREFIX}{kind}" for kind in KINDS]

_fields = msgspec.json.Decoder(dict[str, Any])
_encoder = msgspec.json.Encoder()
# Which part of the envelope a filled-in field came from.
_ORIGINS = {"event_id": "id", "organization": "subject", "occurred_at": "at", "type": "type"}


def record(told: Sequence[Event], *, now: datetime, scope: Organization | None) -> list[EventAnswer]:
    """Record conversation events, as `recording.record` does; errors name fields of the events."""
    answers, items = [], []
    for event in told:
        try:
            items.append((event, _item(event)))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            answers.append(events.rejected(event, event.terms.data, "Expected an object: the conversation's event."))
    recorded = recording.record([raw for _, raw in items], now=now, scope=scope)
    return answers + [_answer(event, answer) for (event, _), answer in zip(items, recorded, strict=True)]


def _item(event: Event) -> bytes:
    """Return the event as the recorder reads it. Raises what msgspec raises for data that is no object."""
    given = _fields.decode(event.data)
    filled = {
        "event_id": event.id,
        "type": event.type.removeprefix(PREFIX),
        "organization": event.subject,
        "occurred_at": event.at,
    }
    return _encoder.encode({**{name: value for name, value in filled.items() if value is not None}, **given})


def _answer(event: Event, answer: recording.Answer) -> EventAnswer:
    status = recording.RECORDED if answer.status == recording.HELD else answer.status
    field = None
    if answer.reason is not None:
        origin = _ORIGINS.get(answer.field or "")
        field = getattr(event.terms, origin) if origin else f"{event.terms.data}.{answer.field}".rstrip(".")
    return EventAnswer(event.index, event.id, event.type, status, field, answer.reason)
