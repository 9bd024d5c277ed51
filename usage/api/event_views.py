"""Events come in: CloudEvents in three modes, Lago's in two; each sender is answered as it expects."""

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus

import msgspec
from django.http import HttpResponse
from rest_framework.request import Request

from accounts import clock, problems
from accounts.problems import Problem
from usage import event_types, ingestion
from usage.api import answers, description, event_bodies, lago_events
from usage.api.event_bodies import Envelope, Reading
from usage.api.keyed_views import KeyedView, answer, recorded
from usage.api.lago_events import LagoBatchRecorded, LagoRecorded
from usage.events import Event, EventAnswer


class EventsView(KeyedView):
    """Record events, in whichever envelope their sender knows."""

    @description.takes_events("record_events")
    def post(self, request: Request) -> HttpResponse:
        """Record events."""
        return recorded(request, lambda body: _record(event_bodies.read(request._request, body), request))


class EventBatchView(KeyedView):
    """Where Lago's clients send batches."""

    @description.takes_lago_batches("record_lago_batch")
    def post(self, request: Request) -> HttpResponse:
        """Record a batch of Lago's events."""
        return recorded(request, lambda body: _record(event_bodies.read_lago_batch(request._request, body), request))


def _record(reading: Reading, request: Request) -> HttpResponse:
    now = clock.now()
    events = [event for event in reading.told if isinstance(event, Event)]
    refused = [answer for answer in reading.told if isinstance(answer, EventAnswer)]
    outcome = answers.events_recorded([*refused, *event_types.record(events, now=now)])
    if "return=representation" in request.headers.get("Prefer", ""):
        return answer(outcome)
    if outcome.conflicts or outcome.rejected:
        return _answer_refused(outcome)
    return _answer_as_expected(reading.envelope, events, now)


def _answer_refused(outcome: answers.EventsRecorded) -> HttpResponse:
    """Answer senders who look at the status alone: some of what they sent must be corrected."""
    refused = [item for item in outcome.items if item.status in {ingestion.CONFLICT, ingestion.REJECTED}]
    detail = (
        f"{len(refused):,} of {len(outcome.items):,} events were refused, for the reasons in `refused`; the others are "
        "recorded. Correct these and send the request again: what is recorded already is not counted twice."
    )
    return problems.response(
        Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "events-refused",
            "Some events were refused",
            detail,
            refused=msgspec.to_builtins(refused),
        )
    )


def _answer_as_expected(envelope: Envelope, events: Sequence[Event], now: datetime) -> HttpResponse:
    """Answer events that are all recorded, as those who send them in this envelope expect it."""
    if envelope is Envelope.CLOUD_EVENTS:
        return HttpResponse(status=HTTPStatus.NO_CONTENT, headers={"Cache-Control": "no-store"})
    shown = lago_events.answers(events, now=now)
    return answer(LagoRecorded(shown[0]) if envelope is Envelope.LAGO_ONE else LagoBatchRecorded(shown))
