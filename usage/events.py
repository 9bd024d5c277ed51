"""Events: what happened to whom, of which type, as programs tell it in one of several envelopes.

Identity lies in what an event tells (a call, a conversation), never in how it travelled: `source` and further
attributes of the envelope are no part of it, so the same content sent another way is still a duplicate. Where a number
stands beside the source, both are kept to see whether one is missing (`completeness`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from accounts.models import Organization
from usage import ingestion


class Terms(NamedTuple):
    """What the envelope calls the parts of an event, so that an error names the field that was sent."""

    id: str
    type: str
    subject: str
    at: str
    data: str


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event as it was told. `index` is its place in the request, `subject` the organization's reference.

    `at` is when it happened, as `instants.parse` reads it; `data` the JSON text of what its type is about. `sequence`
    is the event's number among those of its `source` for that organization, if it has one.
    """

    index: int
    id: str
    type: str
    subject: str | None
    at: int | str | None
    data: msgspec.Raw
    terms: Terms
    source: str = ""
    sequence: int | None = None


class EventAnswer(msgspec.Struct, gc=False):
    """What became of the event at `index`: recorded, duplicate, conflict or rejected.

    A conflict or a rejection has a reason, and a field of the event as it was sent if it is about one. An event of a
    call has the call's id, and says whether a recorded call has a price already.
    """

    index: int
    id: str | None
    type: str | None
    status: str
    field: str | None = None
    reason: str | None = None
    call_id: str | None = None
    rated: bool | None = None


class Handler(Protocol):
    """Records events of one type and answers each, in any order; wrong ones keep no other from being recorded."""

    def __call__(self, told: Sequence[Event], /, *, now: datetime, scope: Organization | None) -> list[EventAnswer]: ...


def rejected(event: Event, field: str | None, reason: str) -> EventAnswer:
    """Return the answer that refuses an event."""
    return EventAnswer(event.index, event.id, event.type, ingestion.REJECTED, field, reason)
