"""Why a conversation was billed, or was not: its events, the rules in words, and what would have changed the answer."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from usage.models.outcomes import (
    Conversation,
    ConversationEvent,
    EventKind,
    OutcomeCharge,
    OutcomeRuleVersion,
    OutcomeType,
    ReplyKind,
)
from usage.outcomes import rules
from usage.outcomes.judging import Reason, Rules

_SINGULAR = {
    OutcomeType.RESOLUTION: "resolution",
    OutcomeType.PROCEDURE_HANDOFF: "procedure handoff",
    OutcomeType.DISQUALIFICATION: "disqualification",
    OutcomeType.QUALIFICATION: "qualification",
}
_WITHOUT = {
    Reason.NO_AGENT: "No answer of the agent is known, so nothing is charged.",
    Reason.NO_ANSWER: "The agent has only greeted, or nothing was said to it since, so nothing is charged.",
    Reason.NEEDS_HELP: "The customer asked for more help, so nothing is charged.",
    Reason.BAD_RATING: "The customer rated the answer badly, so nothing is charged.",
    Reason.ESCALATED: "The conversation was handed to a person, so nothing is charged.",
    Reason.NOT_PRICED: "The outcome has no price under these rules, so nothing is charged.",
    "": "No rules were in force, so nothing is charged yet.",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One event of the timeline; `decides` and `reverses` say whether the judgement rests on it."""

    event: ConversationEvent
    text: str
    decides: bool
    reverses: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that one needs to check a conversation's charge."""

    conversation: Conversation
    version: OutcomeRuleVersion | None
    rules: Rules | None
    steps: list[Step]
    verdict: str
    would_change: list[str]
    rule_texts: list[str]
    charges: list[OutcomeCharge]


def find(organization_id: int, reference: str) -> Conversation | None:
    """Return the conversation that the vendor calls so."""
    known = Conversation.objects.filter(organization_id=organization_id, reference=reference)
    return known.select_related("organization", "rules__book").first()


def explain(conversation: Conversation, *, now: datetime) -> Explanation:
    """Say why a conversation is charged or is not, as things stand at `now`."""
    version = conversation.rules
    plain = rules.plain(version) if version else None
    charges = OutcomeCharge.objects.filter(
        organization_id=conversation.organization_id, conversation=conversation
    ).order_by("id")
    return Explanation(
        conversation=conversation,
        version=version,
        rules=plain,
        steps=_steps(conversation),
        verdict=_verdict(conversation, plain, now),
        would_change=_would_change(conversation, plain, now),
        rule_texts=texts(plain) if plain else [],
        charges=list(charges),
    )


def texts(version: Rules) -> list[str]:
    """Return the rules of a version in sentences, in the order in which they matter."""
    listed = ", then ".join(_SINGULAR[OutcomeType(outcome)] for outcome in version.precedence)
    said = [
        "A conversation has one outcome at most, and only if the agent answered in it.",
        f"Of several that apply, the first of these counts: {listed}.",
        f"A resolution is confirmed when {_confirms(version)}, after an answer that is no greeting.",
        f"It is assumed when nothing was said for {hours(version.window)} after such an answer.",
        f"It is given back when {_reverses(version)}, also later; another answer starts anew.",
    ]
    if version.closing_decides:
        said.insert(4, "Closing the conversation decides an open question at once.")
    return said


def hours(window: timedelta) -> str:
    """Return a window in words."""
    number = window // timedelta(hours=1)
    return "an hour" if number == 1 else f"{number:,} hours"


def name_of(outcome: str) -> str:
    """Return the name of one outcome of a type."""
    return _SINGULAR[OutcomeType(outcome)]


def _confirms(version: Rules) -> str:
    said = [f"the customer says: {_reply(value)}" for value in sorted(version.confirming_replies)]
    if version.confirming_rating is not None:
        said.append(f"the customer rates {version.confirming_rating} of 5 or more")
    return ", or ".join(said) or "never"


def _reverses(version: Rules) -> str:
    said = [f"the customer says: {_reply(value)}" for value in sorted(version.reversing_replies)]
    if version.reversing_rating is not None:
        said.append(f"the customer rates {version.reversing_rating} of 5 or less")
    if version.escalation_reverses:
        said.append("the conversation is handed to a person")
    return ", or ".join(said) or "never"


def _reply(value: int) -> str:
    return ReplyKind(ReplyKind.values[value]).label.lower()


def _steps(conversation: Conversation) -> list[Step]:
    events = ConversationEvent.objects.filter(
        organization_id=conversation.organization_id, conversation_id=conversation.pk
    )
    return [
        Step(
            event,
            _text(event),
            decides=event.key == conversation.decided_by,
            reverses=event.key == conversation.reversed_by,
        )
        for event in events.order_by("occurred_at", "kind", "value", "key")
    ]


def _text(event: ConversationEvent) -> str:
    if event.kind == EventKind.AI_ANSWERED and event.value:
        return "The agent greeted"
    if event.kind == EventKind.CUSTOMER_REPLIED:
        return f"The customer replied: {_reply(event.value)}"
    if event.kind == EventKind.CUSTOMER_RATED:
        return f"The customer rated: {event.value} of 5"
    return str(EventKind(event.kind).label)


def _verdict(conversation: Conversation, version: Rules | None, now: datetime) -> str:
    if not conversation.outcome or version is None or conversation.decided_at is None:
        return _WITHOUT.get(conversation.reason, _WITHOUT[""])
    named = _SINGULAR[OutcomeType(conversation.outcome)]
    if conversation.reason == Reason.CONFIRMED:
        return f"A {named}, because the customer confirmed that it helped."
    if conversation.reason == Reason.TOLD:
        return f"A {named}, as the agent's platform reported it."
    silence = f"{hours(version.window)} without a word after the agent's answer"
    if conversation.decided_by is not None:
        silence = "the conversation was closed after the agent's answer"
    if conversation.decided_at > now:
        return f"Nothing yet: it becomes a {named} after {silence}."
    return f"A {named}, assumed: {silence}."


def _would_change(conversation: Conversation, version: Rules | None, now: datetime) -> list[str]:
    if version is None:
        return []
    if conversation.outcome == OutcomeType.RESOLUTION:
        when = "before" if conversation.decided_at and conversation.decided_at > now else "at any time"
        changes = [f"It is not charged, or is given back, if {when} {_reverses(version)}."]
        if conversation.reason == Reason.ASSUMED:
            changes.append(f"It would have been confirmed if {_confirms(version)}.")
        return changes
    if conversation.outcome:
        return ["Nothing that the customer says: it is what the agent's platform reported."]
    return ["Another answer of the agent, if the customer confirms it or says nothing more."]
