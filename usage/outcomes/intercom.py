"""Conversations exported from Intercom, in the shape its API publishes, read into events of ours.

Only what is billed by is read; texts, names and addresses are left where they are. An event's id is made of what it
tells, so the same export again is nothing new, and a later one of the same conversation adds what has happened since.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from accounts.models import Organization
from usage import json_faults
from usage.call_objects import MAX_ITEM_BYTES
from usage.outcomes import recording

RECORDED, DUPLICATE, CONFLICT, REJECTED = (
    recording.RECORDED,
    recording.DUPLICATE,
    recording.CONFLICT,
    recording.REJECTED,
)

Seconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]
ResolutionState = Literal[
    "assumed_resolution", "confirmed_resolution", "escalated", "negative_feedback", "procedure_handoff", ""
]
SalesOutcome = Literal["qualified", "disqualified", "product_discovery", "escalated_to_support", "spam"]
_CUSTOMERS = {"user", "lead", "contact", "visitor"}
# Somebody tried the agent out: nobody was helped.
_PREVIEWS = {"workflow_preview", "fin_preview"}


class Author(msgspec.Struct, frozen=True):
    type: str = ""
    from_ai_agent: bool | None = None
    is_ai_answer: bool | None = None


class Part(msgspec.Struct, frozen=True):
    id: int | str
    created_at: Seconds
    part_type: str = ""
    author: Author | None = None

    @property
    def is_of_agent(self) -> bool:
        return self.author is not None and bool(self.author.from_ai_agent)

    @property
    def is_of_customer(self) -> bool:
        return self.author is not None and self.author.type in _CUSTOMERS

    @property
    def is_of_teammate(self) -> bool:
        return self.author is not None and self.author.type in {"admin", "team"} and not self.is_of_agent


class Parts(msgspec.Struct, frozen=True):
    conversation_parts: list[Part] = []


class Agent(msgspec.Struct, frozen=True):
    source_type: str | None = None
    last_answer_type: str | None = None
    resolution_state: ResolutionState | None = None
    rating: Annotated[int, msgspec.Meta(ge=1, le=5)] | None = None
    created_at: Seconds | None = None
    updated_at: Seconds | None = None


class SalesAgent(msgspec.Struct, frozen=True):
    outcome: SalesOutcome | None = None


class Source(msgspec.Struct, frozen=True):
    type: Annotated[str, msgspec.Meta(max_length=32)] = ""


class Company(msgspec.Struct, frozen=True):
    company_id: str | None = None


class Statistics(msgspec.Struct, frozen=True):
    last_contact_reply_at: Seconds | None = None
    last_assignment_at: Seconds | None = None
    last_close_at: Seconds | None = None


class IntercomConversation(msgspec.Struct, frozen=True):
    """The fields that are read of a conversation."""

    id: int | str
    created_at: Seconds
    type: Literal["conversation"] = "conversation"
    updated_at: Seconds | None = None
    state: str = ""
    ai_agent: Agent | None = None
    sales_agent: SalesAgent | None = None
    source: Source | None = None
    company: Company | None = None
    statistics: Statistics | None = None
    conversation_parts: Parts | None = None


class ItemAnswer(NamedTuple):
    """What became of one conversation of a file; `call_id` is the conversation's id, as a list of refusals has it."""

    call_id: str | None
    status: str
    field: str | None = None
    reason: str | None = None


_decoder = msgspec.json.Decoder(IntercomConversation)
_encoder = msgspec.json.Encoder()


def record(items: Sequence[bytes], *, now: datetime, scope: Organization | None = None) -> list[ItemAnswer]:
    """Record exported conversations, and return an answer for each, in their order.

    Without `scope` the organization is the conversation's company, by the id that the vendor gave it. Of a
    conversation with a bad event the others are recorded; it is answered with the first that was not.
    """
    read = [_read(item, scope) for item in items]
    told = [event for events in read if not isinstance(events, ItemAnswer) for event in events]
    answers = iter(_record(told, now, scope))
    return [each if isinstance(each, ItemAnswer) else _sum_up([next(answers) for _ in each]) for each in read]


def events(conversation: IntercomConversation) -> Iterator[dict[str, Any]]:
    """Yield what a conversation tells, as events of ours. Pure; nothing for one in which no agent answered."""
    told = _Told(conversation)
    if not told.answers or (told.agent.source_type in _PREVIEWS):
        return
    yield from told.answers
    yield from told.replies()
    yield from told.state()
    yield from told.sales_outcome()
    yield from told.rating()
    yield from told.close()


class _Told:
    """One conversation on its way to events."""

    def __init__(self, conversation: IntercomConversation) -> None:
        self.conversation = conversation
        self.agent = conversation.ai_agent or Agent()
        self.statistics = conversation.statistics or Statistics()
        parts = conversation.conversation_parts.conversation_parts if conversation.conversation_parts else []
        self.parts = sorted(parts, key=lambda part: (part.created_at, str(part.id)))
        self.answers = list(self._answers())
        self.last_answer_at = max((each["occurred_at"] // 1000 for each in self.answers), default=0)

    def replies(self) -> Iterator[dict[str, Any]]:
        """Yield what the customer said since the agent first answered; how it was meant is told by the state alone."""
        first_at = min(each["occurred_at"] // 1000 for each in self.answers)
        for part in self.parts:
            if part.is_of_customer and part.part_type == "comment" and part.created_at >= first_at:
                yield self._event("customer_replied", part.created_at, f"part:{part.id}", reply_kind="other")

    def state(self) -> Iterator[dict[str, Any]]:
        """Yield what the resolution state says beyond the parts. An assumed one is what silence makes of an answer."""
        state = self.agent.resolution_state
        if state == "confirmed_resolution":
            yield self._once("customer_replied", self._last_reply_at(), state, reply_kind="affirmative")
        elif state == "negative_feedback":
            yield self._once("customer_replied", self._last_reply_at(), state, reply_kind="needs_help")
        elif state == "escalated":
            yield self._once("escalated", self._handed_over_at(), state)
        elif state == "procedure_handoff":
            yield self._once("procedure_handoff", self.last_answer_at, state)

    def sales_outcome(self) -> Iterator[dict[str, Any]]:
        """Yield what the sales agent made of it, where that is something billed or undone."""
        outcome = self.conversation.sales_agent.outcome if self.conversation.sales_agent else None
        if outcome in {"qualified", "disqualified"}:
            yield self._once(outcome, self.last_answer_at, outcome)
        elif outcome == "escalated_to_support":
            yield self._once("escalated", self._handed_over_at(), outcome)

    def rating(self) -> Iterator[dict[str, Any]]:
        """Yield the rating of the agent, not that of a teammate."""
        if self.agent.rating is not None:
            at = self.agent.updated_at or self.agent.created_at or self._last_reply_at()
            yield self._once("customer_rated", at, "rating", rating=self.agent.rating)

    def close(self) -> Iterator[dict[str, Any]]:
        """Yield that it was closed, if it is."""
        if self.conversation.state == "closed" and self.statistics.last_close_at:
            yield self._once("closed", self.statistics.last_close_at, "closed")

    def _answers(self) -> Iterator[dict[str, Any]]:
        """Yield the agent's answers; of a listed conversation, which has no parts, the one that its fields tell of."""
        for part in self.parts:
            if part.is_of_agent and part.part_type == "comment":
                is_greeting = not (part.author and part.author.is_ai_answer)
                yield self._event("ai_answered", part.created_at, f"part:{part.id}", is_greeting=is_greeting)
        last = next((part for part in reversed(self.parts) if part.is_of_agent and part.part_type == "comment"), None)
        if last is not None and self.agent.last_answer_type == "custom_answer":
            # Its words are a person's, so the part itself does not say that it is an answer.
            yield self._event("ai_answered", last.created_at, f"answer:{last.id}", is_greeting=False)
        if not self.parts and self.agent.last_answer_type:
            yield self._event("ai_answered", self.conversation.created_at, "answer")

    def _last_reply_at(self) -> int:
        replies = [part.created_at for part in self.parts if part.is_of_customer and part.part_type == "comment"]
        told = max(replies, default=self.statistics.last_contact_reply_at or 0)
        return max(told, self.last_answer_at)

    def _handed_over_at(self) -> int:
        """Return when a person came in after the last answer; else when it was assigned, or the answer itself."""
        later = [part.created_at for part in self.parts if part.is_of_teammate]
        after = [at for at in later if at >= self.last_answer_at]
        return min(after, default=max(self.statistics.last_assignment_at or 0, self.last_answer_at))

    def _once(self, kind: str, at: int, name: str, **fields: Any) -> dict[str, Any]:
        """Return an event that is named by when it was too: told again of another instant it is another one."""
        return self._event(kind, at, f"{name}:{at}", **fields)

    def _event(self, kind: str, at: int, name: str, **fields: Any) -> dict[str, Any]:
        channel = {"channel": self.conversation.source.type} if self.conversation.source else {}
        return {
            "conversation_id": f"{self.conversation.id}",
            "event_id": f"intercom:{self.conversation.id}:{name}",
            "type": kind,
            "occurred_at": at * 1000,
            **channel,
            **fields,
        }


def _read(item: bytes, scope: Organization | None) -> list[bytes] | ItemAnswer:
    """Return the events of one exported conversation, or why it has none."""
    if len(item) > MAX_ITEM_BYTES:
        return ItemAnswer(None, REJECTED, None, f"The conversation is larger than {MAX_ITEM_BYTES:,} bytes.")
    try:
        conversation = _decoder.decode(item)
    except msgspec.ValidationError as error:
        field, reason = json_faults.of(error)
        return ItemAnswer(_id_of(item), REJECTED, field or None, reason)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return ItemAnswer(None, REJECTED, None, f"The conversation is not readable JSON: {error}.")
    named = conversation.company.company_id if conversation.company else None
    if scope is None and not named:
        return ItemAnswer(f"{conversation.id}", REJECTED, "company.company_id", "The organization is not named.")
    owner = {} if scope is not None else {"organization": named}
    told = [_encoder.encode({**event, **owner}) for event in events(conversation)]
    return told or ItemAnswer(f"{conversation.id}", DUPLICATE)


def _id_of(item: bytes) -> str | None:
    """Return the id of a conversation that is wrong elsewhere."""
    try:
        return f"{msgspec.json.decode(item)['id']}"[:128]
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _record(told: list[bytes], now: datetime, scope: Organization | None) -> Iterator[recording.Answer]:
    for start in range(0, len(told), recording.MAX_ITEMS):
        yield from recording.record(told[start : start + recording.MAX_ITEMS], now=now, scope=scope)


def _sum_up(answers: Sequence[recording.Answer]) -> ItemAnswer:
    """Return what became of a conversation: the worst of its events, else whether any was new."""
    conversation_id = answers[0].conversation_id
    for status in (REJECTED, CONFLICT):
        wrong = next((answer for answer in answers if answer.status == status), None)
        if wrong is not None:
            return ItemAnswer(conversation_id, status, wrong.field, f"{wrong.event_id}: {wrong.reason}")
    is_known = all(answer.status == DUPLICATE for answer in answers)
    return ItemAnswer(conversation_id, DUPLICATE if is_known else RECORDED)
