"""Conversation events as the vendor sends them, read into facts; whatever is wrong is named by field and reason.

{"organization": "acme", "conversation_id": "c_1", "event_id": "e_1", "type": "customer_replied",
 "occurred_at": "2026-10-15T09:30:00Z", "reply_kind": "needs_help"}

`ai_answered` may say `is_greeting`, `customer_replied` says its `reply_kind`, `customer_rated` its `rating`, 1 to 5.
`agent` and `channel` describe the conversation. Everything else is kept as it came.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec

from usage import instants, json_faults
from usage.json_limits import TooComplex, check_values
from usage.models.outcomes import EventKind, ReplyKind
from usage.outcomes.judging import Fact, reply_value

MAX_ITEM_BYTES = 256 * 1024
CLOCK_SKEW = timedelta(minutes=5)
KINDS = {kind.name.lower(): kind for kind in EventKind}

Text32 = Annotated[str, msgspec.Meta(max_length=32)]
Text128 = Annotated[str, msgspec.Meta(max_length=128)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class EventRejected(Exception):
    """An event cannot be recorded; `field` is a path in the item, empty for the item as a whole."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class ConversationEventItem(msgspec.Struct, frozen=True):
    """The fields that are interpreted."""

    conversation_id: Id
    event_id: Id
    type: str
    occurred_at: int | str
    organization: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None
    is_greeting: bool | None = None
    reply_kind: str | None = None
    rating: int | None = None
    agent: Text128 | None = None
    channel: Text32 | None = None


class EventItem(msgspec.Struct, frozen=True, gc=False):
    """An event as it will be stored. `extra` is JSON text, empty if there is nothing else; `key` names the event."""

    organization: str | None
    conversation: str
    event_id: str
    fact: Fact
    agent: str
    channel: str
    extra: bytes
    digest: UUID


_INTERPRETED = frozenset(ConversationEventItem.__struct_fields__)
_item_decoder = msgspec.json.Decoder(ConversationEventItem)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_tree_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()
_canonical = msgspec.json.Encoder(order="sorted")


def decode(raw: bytes | msgspec.Raw, *, now: datetime) -> EventItem:
    """Read one event. Raises EventRejected with the field and the reason of the first thing that is wrong.

    Instants are whole milliseconds since 1970 or RFC 3339 texts; five minutes ahead of `now`, no more.
    """
    if len(memoryview(raw)) > MAX_ITEM_BYTES:
        raise EventRejected("", f"The event is larger than {MAX_ITEM_BYTES:,} bytes.")
    try:
        item = _item_decoder.decode(raw)
        tree = _tree_decoder.decode(raw)
        check_values(bytes(raw), tree)
        extra = {name: value for name, value in _fields_decoder.decode(raw).items() if name not in _INTERPRETED}
        return _event(item, tree, extra, now)
    except msgspec.ValidationError as error:
        raise EventRejected(*json_faults.of(error)) from None
    except TooComplex as error:
        raise EventRejected(error.path, error.reason) from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EventRejected("", f"The event is not readable JSON: {error}.") from None


def _event(
    item: ConversationEventItem, tree: dict[str, Any], extra: dict[str, msgspec.Raw], now: datetime
) -> EventItem:
    kind = KINDS.get(item.type)
    if kind is None:
        raise EventRejected("type", f"There is no event {item.type[:64]}. These are known: {', '.join(KINDS)}.")
    occurred_at = _instant(item.occurred_at, now)
    key = UUID(bytes=hashlib.sha256(item.event_id.encode()).digest()[:16])
    for name in ("organization", "occurred_at", "event_id"):
        tree.pop(name, None)
    content = _canonical.encode((occurred_at, tree))
    return EventItem(
        organization=item.organization,
        conversation=item.conversation_id,
        event_id=item.event_id,
        fact=Fact(occurred_at, kind, _value(item, kind), key),
        agent=item.agent or "",
        channel=item.channel or "",
        extra=_encoder.encode(extra) if extra else b"",
        digest=UUID(bytes=hashlib.sha256(content).digest()[:16]),
    )


def _instant(value: int | str, now: datetime) -> datetime:
    try:
        instant = instants.parse(value)
    except ValueError as error:
        raise EventRejected("occurred_at", str(error)) from None
    if instant > now + CLOCK_SKEW:
        raise EventRejected("occurred_at", f"{instant.isoformat()} lies in the future.")
    return instant


def _value(item: ConversationEventItem, kind: EventKind) -> int:
    """Return what the judgement takes from an event of its kind beyond that it happened."""
    if kind == EventKind.AI_ANSWERED:
        return int(bool(item.is_greeting))
    if kind == EventKind.CUSTOMER_REPLIED:
        if item.reply_kind not in ReplyKind.values:
            raise EventRejected("reply_kind", f"Expected one of {', '.join(ReplyKind.values)}.")
        return reply_value(item.reply_kind)
    if kind == EventKind.CUSTOMER_RATED:
        if item.rating is None or not 1 <= item.rating <= 5:
            raise EventRejected("rating", "Expected a whole number from 1 to 5.")
        return item.rating
    return 0
