"""A second look at one conversation: judged anew from its events, and given back where they come to nothing."""

from datetime import datetime

from django.db import transaction

from usage.models.outcomes import Conversation
from usage.outcomes import charging, conversations, recording
from usage.outcomes.conversations import Reference


def take(conversation: Conversation, *, now: datetime) -> bool:
    """Undo a charge that the conversation's events of today do not bear; return whether there was one. Safe twice.

    Only a charge that the rules clearly refuse is undone: where the events come to another outcome, a person decides.
    """
    known = Reference(conversation.organization_id, conversation.reference)
    with transaction.atomic():
        judged = recording.judge(list(conversations.lock({known: []}, now=now).values()))
        if judged[0].judgement.outcome or judged[0].standing.charge_id is None:
            return False
        reversed_in = charging.undo(judged, now=now)
        conversations.write(judged)
        if reversed_in:
            transaction.on_commit(lambda: recording.announce(reversed_in))
    return True
