"""Conversations by program: record what happened in them, and ask why one was billed."""

from collections import Counter
from datetime import date, datetime
from typing import Annotated

import msgspec
from django.http import HttpResponse
from msgspec import Meta
from rest_framework.request import Request

from accounts import clock
from usage.api import bodies, description, queries
from usage.api.answers import Currency, Micros
from usage.api.keyed_views import KeyedView, answer, not_found, organization_of, recorded
from usage.models import OutcomeCharge
from usage.outcomes import explanations, recording
from usage.outcomes.event_items import ConversationEventItem
from usage.outcomes.explanations import Explanation, Step


class ConversationEventsRecorded(msgspec.Struct, frozen=True):
    """What became of a request's events: how many of each kind, and each in its order. Held ones are recorded too."""

    recorded: int
    held: int
    duplicates: int
    conflicts: int
    rejected: int
    items: list[recording.Answer]


class TimelineEvent(msgspec.Struct, frozen=True):
    """What happened; the outcome is decided by one event at most, and undone by one."""

    event_id: str
    occurred_at: datetime
    recorded_at: datetime
    what: str
    decides: bool
    reverses: bool


class ConversationCharge(msgspec.Struct, frozen=True):
    """A charge, or a reversal. Without a sequence it is not settled; a bucket that paid has its unit, and costs 0."""

    revision: int
    kind: str
    outcome: str
    reason: str
    price_micros: Micros
    decided_at: datetime
    withdrawn_at: datetime | None
    sequence: int | None
    billed_month: date | None
    amount_micros: Micros | None
    by_bucket: bool


class ConversationRecord(msgspec.Struct, frozen=True):
    """Why a conversation was billed, or was not."""

    conversation_id: str
    organization: str
    currency: Currency
    began_at: datetime
    outcome: str | None
    reason: str
    final_at: datetime | None
    verdict: str
    would_change: list[str]
    rules: Annotated[list[str], Meta(description="The rules in force when it began, in words.")]
    rules_version: int | None
    window_seconds: int | None
    timeline: list[TimelineEvent]
    charges: list[ConversationCharge]


class ConversationEventsView(KeyedView):
    """Record what happened in conversations."""

    @description.records_conversations("record_conversation_events", ConversationEventItem, ConversationEventsRecorded)
    def post(self, request: Request) -> HttpResponse:
        """Record conversation events."""
        return recorded(request, lambda body: _record(request, body))


class ConversationView(KeyedView):
    """One conversation."""

    @description.reads("get_conversation", query=queries.OrganizationQuery, answer=ConversationRecord)
    def get(self, request: Request, conversation_id: str) -> HttpResponse:
        """Say why a conversation was billed, or was not."""
        query = queries.read(request.query_params, queries.OrganizationQuery)
        organization = organization_of(request, query)
        found = None if "\x00" in conversation_id else explanations.find(organization.pk, conversation_id)
        if found is None:
            raise not_found()
        return answer(_conversation(explanations.explain(found, now=clock.now())))


def _record(request: Request, body: bytes) -> HttpResponse:
    bodies.require_type(request._request, "application/json")
    items = bodies.limited(bodies.split(body, "events"), "events")
    answers = recording.record(items, now=clock.now())
    counts = Counter(each.status for each in answers)
    return answer(
        ConversationEventsRecorded(
            recorded=counts[recording.RECORDED],
            held=counts[recording.HELD],
            duplicates=counts[recording.DUPLICATE],
            conflicts=counts[recording.CONFLICT],
            rejected=counts[recording.REJECTED],
            items=answers,
        )
    )


def _conversation(explained: Explanation) -> ConversationRecord:
    conversation = explained.conversation
    return ConversationRecord(
        conversation_id=conversation.reference,
        organization=conversation.organization.reference,
        currency=conversation.organization.currency,
        began_at=conversation.began_at,
        outcome=conversation.outcome or None,
        reason=conversation.reason,
        final_at=conversation.decided_at,
        verdict=explained.verdict,
        would_change=explained.would_change,
        rules=explained.rule_texts,
        rules_version=explained.version.number if explained.version else None,
        window_seconds=explained.version.window_seconds if explained.version else None,
        timeline=[_event(step) for step in explained.steps],
        charges=[_charge(charge) for charge in explained.charges],
    )


def _event(step: Step) -> TimelineEvent:
    return TimelineEvent(
        event_id=step.event.event_id,
        occurred_at=step.event.occurred_at,
        recorded_at=step.event.recorded_at,
        what=step.text,
        decides=step.decides,
        reverses=step.reverses,
    )


def _charge(charge: OutcomeCharge) -> ConversationCharge:
    return ConversationCharge(
        revision=charge.revision,
        kind=charge.kind,
        outcome=charge.outcome,
        reason=charge.reason,
        price_micros=charge.price_micros,
        decided_at=charge.decided_at,
        withdrawn_at=charge.withdrawn_at,
        sequence=charge.sequence,
        billed_month=charge.billed_month,
        amount_micros=charge.amount_micros,
        by_bucket=charge.bucket_id is not None,
    )
