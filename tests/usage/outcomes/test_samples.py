"""The sample's conversations: the same for a seed, and every kind of outcome among them."""

from datetime import date, datetime, timedelta

import msgspec

from usage import sample_conversations, samples
from usage.models import Conversation, OutcomeCharge
from usage.outcomes import charging, recording

MONTHS = [date(2026, 8, 1), date(2026, 9, 1)]


def made(count: int = 300):
    customers = sample_conversations.customers(samples.organizations(count=6))
    return list(sample_conversations.events(months=MONTHS, count=count, seed=3, customers=customers))


def test_the_sample_is_the_same_for_a_seed_and_in_the_order_of_months():
    events = made()
    assert events == made()
    assert len({event["event_id"] for event in events}) == len(events)
    assert len({event["conversation_id"] for event in events}) == 300
    months = [event["occurred_at"][:7] for event in events]
    assert months == sorted(months)
    assert events != list(
        sample_conversations.events(
            months=MONTHS, count=300, seed=4, customers=sample_conversations.customers(samples.organizations(count=6))
        )
    )


def test_the_sample_has_every_outcome_and_every_reason(ruled, make_organization, now):
    for sample in samples.organizations(count=6):
        make_organization(sample.reference)
    events = made()
    for start in range(0, len(events), 1000):
        answers = recording.record([msgspec.json.encode(each) for each in events[start : start + 1000]], now=now)
        assert {answer.status for answer in answers} <= {"recorded", "held"}
    for organization_id in charging.organizations_due(now=now):
        charging.charge_due(organization_id, now=now)
    charged = set(OutcomeCharge.objects.filter(withdrawn_at=None).values_list("outcome", flat=True))
    assert charged == {"resolution", "procedure_handoff", "disqualification", "qualification"}
    reasons = set(Conversation.objects.values_list("reason", flat=True))
    assert reasons == {"confirmed", "assumed", "told", "needs_help", "bad_rating", "escalated", "no_answer"}
    resolved = Conversation.objects.filter(outcome="resolution").count()
    assert 0.6 < resolved / Conversation.objects.count() < 0.85
    last = max(datetime.fromisoformat(event["occurred_at"]) for event in events)
    assert last < now + timedelta(minutes=5)
