"""What became of a conversation: each rule by an example, the laws by properties."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usage.models.outcomes import EventKind, OutcomeType
from usage.outcomes.judging import Fact, Judgement, Reason, Rules, held, judge

START = datetime(2026, 10, 10, 8, tzinfo=UTC)
DAY = timedelta(hours=24)
RULES = Rules(
    version_id=1,
    number=1,
    starts_at=datetime(2025, 1, 1, tzinfo=UTC),
    window=DAY,
    precedence=("qualification", "disqualification", "procedure_handoff", "resolution"),
    confirming_replies=frozenset({0}),
    reversing_replies=frozenset({2}),
    confirming_rating=4,
    reversing_rating=2,
    escalation_reverses=True,
    closing_decides=False,
    prices=dict.fromkeys(OutcomeType.values, 990_000),
)
AFFIRMATIVE, OTHER, NEEDS_HELP = 0, 1, 2


def fact(kind: EventKind, hours: float, value: int = 0) -> Fact:
    return Fact(START + timedelta(hours=hours), kind, value, UUID(int=hash((kind, hours, value)) % 2**128))


def answered(hours: float = 0) -> Fact:
    return fact(EventKind.AI_ANSWERED, hours)


def replied(hours: float, value: int) -> Fact:
    return fact(EventKind.CUSTOMER_REPLIED, hours, value)


def rated(hours: float, value: int) -> Fact:
    return fact(EventKind.CUSTOMER_RATED, hours, value)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def test_silence_for_the_window_is_an_assumed_resolution():
    assert judge([answered()], RULES) == Judgement(OutcomeType.RESOLUTION, Reason.ASSUMED, at(24))


def test_a_greeting_is_no_answer():
    judged = judge([fact(EventKind.AI_ANSWERED, 0, 1), replied(1, AFFIRMATIVE)], RULES)
    assert judged == Judgement("", Reason.NO_ANSWER)


def test_a_yes_confirms_at_once():
    yes = replied(1, AFFIRMATIVE)
    assert judge([answered(), yes], RULES) == Judgement("resolution", Reason.CONFIRMED, at(1), yes.key)


def test_another_reply_starts_the_window_again():
    assert judge([answered(), replied(5, OTHER)], RULES).decided_at == at(29)


def test_a_reply_after_the_window_changes_nothing_any_more():
    assert judge([answered(), replied(25, OTHER)], RULES).decided_at == at(24)


@pytest.mark.parametrize("hours", [1, 500])
@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (EventKind.CUSTOMER_REPLIED, NEEDS_HELP, Reason.NEEDS_HELP),
        (EventKind.CUSTOMER_RATED, 2, Reason.BAD_RATING),
        (EventKind.ESCALATED, 0, Reason.ESCALATED),
    ],
)
def test_help_that_is_needed_undoes_a_resolution_at_any_time(kind, value, reason, hours):
    undone = fact(kind, hours, value)
    assert judge([answered(), undone], RULES) == Judgement("", reason, reversed_by=undone.key)
    assert judge([answered(), replied(0.5, AFFIRMATIVE), undone], RULES) == Judgement(
        "", reason, reversed_by=undone.key
    )


def test_a_later_answer_starts_anew():
    facts = [answered(), replied(1, NEEDS_HELP), answered(2)]
    assert judge(facts, RULES) == Judgement("resolution", Reason.ASSUMED, at(26))


def test_a_good_rating_confirms_and_a_middling_one_only_starts_the_window_again():
    assert judge([answered(), rated(1, 4)], RULES).reason == Reason.CONFIRMED
    assert judge([answered(), rated(1, 3)], RULES) == Judgement("resolution", Reason.ASSUMED, at(25))


def test_ratings_count_only_where_the_rules_say_so():
    rules = replace(RULES, confirming_rating=None, reversing_rating=None)
    assert judge([answered(), rated(1, 1)], rules).reason == Reason.ASSUMED
    assert judge([answered(), rated(1, 5)], rules).reason == Reason.ASSUMED


def test_closing_decides_only_where_the_rules_say_so():
    closed = fact(EventKind.CLOSED, 1)
    assert judge([answered(), closed], RULES).decided_at == at(24)
    rules = replace(RULES, closing_decides=True)
    assert judge([answered(), closed], rules) == Judgement("resolution", Reason.ASSUMED, at(1), closed.key)


def test_of_two_replies_at_one_instant_the_one_that_needs_help_counts():
    assert judge([answered(), replied(1, AFFIRMATIVE), replied(1, NEEDS_HELP)], RULES).outcome == ""


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        (EventKind.PROCEDURE_HANDOFF, "procedure_handoff"),
        (EventKind.QUALIFIED, "qualification"),
        (EventKind.DISQUALIFIED, "disqualification"),
    ],
)
def test_what_the_vendor_tells_stands_whatever_follows(kind, outcome):
    told = fact(kind, 1)
    assert judge([answered(), told, replied(2, NEEDS_HELP)], RULES) == Judgement(outcome, Reason.TOLD, at(1), told.key)


def test_there_is_one_outcome_by_precedence():
    facts = [answered(), replied(1, AFFIRMATIVE), fact(EventKind.PROCEDURE_HANDOFF, 2), fact(EventKind.QUALIFIED, 30)]
    assert judge(facts, RULES).outcome == "qualification"
    assert judge(facts[:3], RULES).outcome == "procedure_handoff"
    assert judge(facts[:3], replace(RULES, precedence=("resolution",))).outcome == "resolution"


def test_what_has_no_price_is_no_outcome():
    rules = replace(RULES, prices={})
    assert judge([answered(), replied(1, AFFIRMATIVE)], rules) == Judgement("", Reason.NOT_PRICED)


def test_without_the_agent_there_is_no_outcome():
    assert judge([fact(EventKind.QUALIFIED, 1), replied(2, AFFIRMATIVE)], RULES) == Judgement("", Reason.NO_AGENT)


def test_what_answers_to_nothing_known_is_held():
    assert "No answer" in held(replied(1, OTHER), [replied(1, OTHER)])
    assert "before every answer" in held(replied(1, OTHER), [replied(1, OTHER), answered(2)])
    assert held(replied(1, OTHER), [replied(1, OTHER), answered(0)]) == ""
    assert held(fact(EventKind.CLOSED, 1), [answered(2)]) == ""


# ── Laws ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

_VALUES = {EventKind.AI_ANSWERED: 1, EventKind.CUSTOMER_REPLIED: 2, EventKind.CUSTOMER_RATED: 5}


@st.composite
def facts_of_a_conversation(draw) -> list[Fact]:
    """Draw up to a dozen events within some days, often at the same instant."""
    number = draw(st.integers(1, 12))
    kinds = [draw(st.sampled_from(EventKind)) for _ in range(number)]
    return [
        Fact(
            START + timedelta(hours=draw(st.integers(0, 80))),
            kind,
            draw(st.integers(kind == EventKind.CUSTOMER_RATED, _VALUES.get(kind, 0))),
            UUID(int=position),
        )
        for position, kind in enumerate(kinds)
    ]


@settings(max_examples=2_000, deadline=None)
@given(facts_of_a_conversation(), st.randoms(use_true_random=False))
def test_i07_the_order_of_events_changes_no_judgement(facts: list[Fact], shuffled: random.Random):
    judged = judge(facts, RULES)
    again = list(facts)
    shuffled.shuffle(again)
    assert judge(again, RULES) == judged


@settings(max_examples=2_000, deadline=None)
@given(facts_of_a_conversation())
def test_a_decision_is_undone_by_events_alone_and_never_by_time(facts: list[Fact]):
    judged = judge(facts, RULES)
    late = Fact(START + timedelta(days=400), EventKind.CLOSED, 0, UUID(int=99))
    assert judge([*facts, late], RULES) == judged


@settings(max_examples=1_000, deadline=None)
@given(facts_of_a_conversation())
def test_a_later_call_for_help_leaves_no_resolution(facts: list[Fact]):
    help_needed = Fact(START + timedelta(days=400), EventKind.CUSTOMER_REPLIED, NEEDS_HELP, UUID(int=99))
    assert judge([*facts, help_needed], RULES).outcome != OutcomeType.RESOLUTION
