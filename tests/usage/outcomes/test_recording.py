"""Events come in: each once, in any order, however they are split; wrong ones are named and harm no other."""

import random
from collections import Counter
from datetime import timedelta

import pytest

from tests.usage.outcomes.conftest import START, became, event
from usage import ingestion
from usage.models import Conversation, ConversationEvent, ConversationEventDetail, OutcomeCharge
from usage.outcomes import charging, recording, rules

pytestmark = pytest.mark.usefixtures("ruled", "acme")


def statuses(answers):
    return [answer.status for answer in answers]


def standing() -> Counter[str]:
    """Count the charges that stand, by outcome."""
    charges = OutcomeCharge.objects.filter(kind="charge", withdrawn_at=None, reversals=None)
    return Counter(charges.values_list("outcome", flat=True))


def test_a_confirmed_resolution_is_charged_at_once(tell):
    answers = tell(event("ai_answered"), event("customer_replied", 1, reply_kind="affirmative"))
    assert statuses(answers) == ["recorded", "recorded"]
    charge = OutcomeCharge.objects.get()
    assert (charge.outcome, charge.reason, charge.price_micros) == ("resolution", "confirmed", 990_000)
    assert charge.decided_at == START + timedelta(hours=1)
    assert became().charge_id == charge.pk
    assert became().due_at is None


def test_an_assumed_one_waits_for_its_window_and_for_the_sweep(tell, now):
    tell(event("ai_answered", (now - START) / timedelta(hours=1) - 1))
    assert became().due_at == now + timedelta(hours=23)
    assert charging.organizations_due(now=now) == []
    later = now + timedelta(hours=23)
    assert charging.organizations_due(now=later) == [became().organization_id]
    assert charging.charge_due(became().organization_id, now=later) == 1
    assert charging.charge_due(became().organization_id, now=later) == 0
    assert standing() == {"resolution": 1}


@pytest.mark.parametrize("at_once", [True, False], ids=["told late", "by the sweep"])
def test_i05_charges_are_numbered_in_the_order_in_which_outcomes_became_final(tell, now, at_once):
    """However they lie in the table, so that the facts alone say which of them a bucket pays."""
    hours = {f"c_{number}": hour for number, hour in enumerate([7, 3, 9, 1, 5, 8, 2, 6, 4])}
    begin = 0 if at_once else (now - START) / timedelta(hours=1) - 12
    tell(*(event("ai_answered", begin + hour, conversation=each) for each, hour in hours.items()))
    if not at_once:
        assert OutcomeCharge.objects.count() == 0
        charging.charge_due(became("c_0").organization_id, now=now + timedelta(days=30))
    numbered = OutcomeCharge.objects.order_by("pk").values_list("conversation__reference", flat=True)
    assert list(numbered) == sorted(hours, key=hours.__getitem__)


def test_help_asked_for_before_settlement_withdraws_the_charge(tell):
    tell(event("ai_answered"), event("customer_replied", 1, reply_kind="affirmative"))
    tell(event("customer_replied", 2, reply_kind="needs_help"))
    charge = OutcomeCharge.objects.get()
    assert charge.withdrawn_at is not None
    assert (became().outcome, became().charge_id, became().revision) == ("", None, 1)
    tell(event("ai_answered", 3), event("customer_replied", 4, reply_kind="affirmative"))
    assert standing() == {"resolution": 1}
    assert became().revision == 2


def test_an_outcome_of_higher_rank_takes_the_place_of_a_lower(tell):
    tell(event("ai_answered"), event("customer_replied", 1, reply_kind="affirmative"))
    tell(event("qualified", 2))
    assert standing() == {"qualification": 1}


def test_i06_the_same_events_again_are_duplicates(tell):
    told = [event("ai_answered"), event("customer_replied", 1, reply_kind="affirmative")]
    tell(*told)
    assert statuses(tell(*told, told[0])) == ["duplicate"] * 3
    assert OutcomeCharge.objects.count() == 1
    assert became().revision == 1


def test_f49_other_content_under_a_known_event_is_a_conflict(tell):
    tell(event("ai_answered", event_id="e_1"))
    answers = tell(event("ai_answered", 5, event_id="e_1"), event("ai_answered", event_id="e_1", conversation="c_2"))
    assert statuses(answers) == ["conflict", "conflict"]
    assert {(answer.field, answer.reason) for answer in answers} == {
        ("event_id", "Another content is recorded under this id.")
    }
    assert list(Conversation.objects.values_list("reference", flat=True)) == ["c_1"]


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"type": "sang"}, "type", "There is no event sang"),
        ({"conversation_id": ""}, "conversation_id", "length >= 1"),
        ({"conversation_id": ...}, "conversation_id", "required"),
        ({"event_id": 7}, "event_id", "Expected `str`"),
        ({"occurred_at": "2026-10-15T09:36:00Z"}, "occurred_at", "lies in the future"),
        ({"occurred_at": "yesterday"}, "occurred_at", "Expected an instant"),
        ({"organization": "nobody"}, "organization", "There is no organization nobody."),
        ({"organization": ...}, "organization", "required"),
        ({"type": "customer_replied"}, "reply_kind", "Expected one of affirmative, other, needs_help."),
        ({"type": "customer_rated", "rating": 6}, "rating", "from 1 to 5"),
        ({"note": "a\x00b"}, "note", "NUL"),
    ],
)
def test_a_wrong_event_is_named_and_the_rest_recorded(tell, fields, field, reason):
    wrong = {name: value for name, value in (event("ai_answered") | fields).items() if value is not ...}
    answers = tell(event("ai_answered", conversation="c_3"), wrong)
    assert statuses(answers) == ["recorded", "rejected"]
    assert answers[1].field == field
    assert reason in (answers[1].reason or "")


def test_five_minutes_ahead_is_no_future(tell):
    assert statuses(tell(event("ai_answered") | {"occurred_at": "2026-10-15T09:35:00Z"})) == ["recorded"]


def test_f46_the_second_sixty_is_the_next_minute(tell):
    tell(event("ai_answered") | {"occurred_at": "2026-10-14T23:59:60Z"})
    assert f"{became().began_at:%m-%d %H:%M}" == "10-15 00:00"


def test_a_reply_before_any_answer_is_held_and_counts_once_the_answer_is_known(tell):
    answers = tell(event("customer_replied", 1, reply_kind="affirmative"))
    assert statuses(answers) == ["held"]
    assert answers[0].reason is not None
    assert "No answer of the agent is known" in answers[0].reason
    assert OutcomeCharge.objects.count() == 0
    answers = tell(event("ai_answered", 2), event("customer_replied", 0.5, reply_kind="other"))
    assert statuses(answers) == ["recorded", "held"]
    tell(event("ai_answered", 0.2))
    assert standing() == {"resolution": 1}


def test_what_else_an_event_says_is_kept_apart(tell):
    tell(event("ai_answered", agent="Fin", channel="email", subject="My order"), event("closed", 1))
    assert ConversationEventDetail.objects.get().extra == {"subject": "My order"}
    assert (became().agent, became().channel) == ("Fin", "email")


def test_without_rules_a_conversation_waits_for_them(tell, make_organization, now):
    make_organization("swiss", currency="CHF")
    tell(event("ai_answered", organization="swiss"), event("qualified", 1, organization="swiss"))
    assert (became().rules, became().outcome) == (None, "")
    assert recording.judge_unruled(now=now) == 0


def test_rules_are_those_of_the_conversations_beginning(tell, now):
    document = {
        "rules": [
            {
                "book": "parley-usd",
                "number": 2,
                "starts_at": START + timedelta(hours=2),
                "precedence": ["resolution"],
                "prices": {"resolution": "1.49"},
            }
        ]
    }
    rules.load(document, now=START)
    tell(event("ai_answered", 1), event("customer_replied", 3, reply_kind="affirmative"))
    tell(event("ai_answered", 2, conversation="c_2"))
    tell(event("customer_replied", 3, reply_kind="affirmative", conversation="c_2"))
    assert list(OutcomeCharge.objects.order_by("id").values_list("price_micros", flat=True)) == [990_000, 1_490_000]


def test_at_most_five_thousand_events_come_at_once_as_many_as_calls(tell):
    assert recording.MAX_ITEMS == ingestion.MAX_ITEMS
    with pytest.raises(recording.TooManyEvents):
        tell(*[b"{}"] * 5001)


# ── Any order, any split ──────────────────────────────────────────────────────────────────────────────────────────────

_KINDS = [
    ("ai_answered", {}),
    ("ai_answered", {"is_greeting": True}),
    ("customer_replied", {"reply_kind": "affirmative"}),
    ("customer_replied", {"reply_kind": "other"}),
    ("customer_replied", {"reply_kind": "needs_help"}),
    ("customer_rated", {"rating": 1}),
    ("customer_rated", {"rating": 5}),
    ("escalated", {}),
    ("procedure_handoff", {}),
    ("qualified", {}),
    ("closed", {}),
]


def _conversations(chance: random.Random, count: int) -> list[list[dict]]:
    """Return conversations of one to eight events within four days."""
    made = []
    for number in range(count):
        kinds = [chance.choice(_KINDS) for _ in range(chance.randint(1, 8))]
        made.append(
            [
                event(kind, chance.randint(0, 96), conversation=f"c_{number}", event_id=f"e_{number}_{place}", **fields)
                for place, (kind, fields) in enumerate(kinds)
            ]
        )
    return made


def test_i07_i08_any_order_and_any_split_come_to_the_same(tell, make_organization, now):
    chance = random.Random(17)
    conversations = _conversations(chance, 2_000)
    results = []
    for reference in ("in-order", "at-random"):
        organization = make_organization(reference)
        told = [each | {"organization": reference} for events in conversations for each in events]
        size = 1000
        if reference == "at-random":
            chance.shuffle(told)
            told += chance.sample(told, 500)
            size = 137
        for start in range(0, len(told), size):
            tell(*told[start : start + size])
        charging.charge_due(organization.pk, now=now)
        rows = Conversation.objects.filter(organization=organization)
        charges = OutcomeCharge.objects.filter(
            organization=organization, kind="charge", withdrawn_at=None, reversals=None
        )
        results.append(
            (
                set(rows.values_list("reference", "outcome", "reason", "decided_at", "began_at", "reversed_by")),
                set(charges.values_list("conversation__reference", "outcome", "price_micros", "rules")),
            )
        )
        assert ConversationEvent.objects.filter(organization=organization).count() == sum(map(len, conversations))
    assert results[0] == results[1]
    outcomes = Counter(outcome for _, outcome, *_ in results[0][0])
    assert len(outcomes) == 4
    assert min(outcomes.values()) > 50, outcomes
