"""The types of events there are. A new type is a line here and a handler (`events.Handler`) in a module of its own."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from accounts.models import Organization
from usage import call_events, events
from usage.events import Event, EventAnswer, Handler
from usage.outcomes import conversation_events

# Some senders know no dots in names (Lago's codes, Retell's events): both spellings mean the same.
HANDLERS: dict[str, Handler] = {
    "call.ended": call_events.record,
    "call_ended": call_events.record,
    **dict.fromkeys(conversation_events.TYPES, conversation_events.record),
}


def record(told: Sequence[Event], *, now: datetime, scope: Organization | None = None) -> list[EventAnswer]:
    """Record events and return an answer for each. Every event stands for itself, also one of an unknown type.

    With `scope`, events need not name an organization and may name no other. Safe twice and at once, as
    `ingestion.record` is; at most `ingestion.MAX_ITEMS` events.
    """
    by_handler: dict[Handler, list[Event]] = defaultdict(list)
    answers: list[EventAnswer] = []
    for event in told:
        handler = HANDLERS.get(event.type)
        if handler is None:
            known = ", ".join(sorted(HANDLERS))
            reason = f"There is no event type {event.type[:128]}. These are known: {known}."
            answers.append(events.rejected(event, event.terms.type, reason))
        else:
            by_handler[handler].append(event)
    for handler, batch in by_handler.items():
        answers += handler(batch, now=now, scope=scope)
    return answers
