"""Events: what happened to whom, of which type, as programs tell it in one of several envelopes.

Identity lies in what an event tells (a call, a conversation), never in how it travelled: `source` and further
attributes of the envelope are not kept, so the same content sent another way is still a duplicate.
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

    `at` is when it happened, as `instants.parse` reads it; `data` the JSON text of what its type is about.
    """

    index: int
    id: str
    type: str
    subject: str | None
    at: int | str | None
    data: msgspec.Raw
    terms: Terms


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
