"""Breakdowns against the charges themselves: every one adds up to the total, whatever the calls are."""

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.charged import all_charges
from tests.usage.conftest import call_object
from usage import breakdowns, rollups
from usage.breakdowns import Dimension
from usage.models import Call

pytestmark = pytest.mark.django_db
START = datetime(2026, 10, 1, tzinfo=UTC)
DAYS = {"starts_on": date(2026, 10, 1), "ends_on": date(2026, 10, 12)}
MODELS = ("gpt_4o", "gpt_4o_mini", "gemini_2_0_flash")


@pytest.fixture
def many(priced, acme, other, record, settle):
    """Two hundred calls of ten days: with one model, two or none, dear and free, of agents with and without a name."""
    rng = random.Random(4)
    for organization in (acme, other):
        record(
            *[
                call_object(
                    f"call_{number:03}",
                    organization=organization.reference,
                    start_timestamp=(START + timedelta(hours=rng.randrange(240))).isoformat(),
                    end_timestamp=...,
                    duration_ms=rng.choice([0, 3_000, 97_000, 1_800_000]),
                    agent_id=rng.choice(["agent_1", "agent_2", ...]),
                    agent_name=rng.choice(["Front desk", "Night"]),
                    products=["platform", *rng.sample(MODELS, k=rng.choice([0, 1, 1, 2])), *voice(rng)],
                    llm_token_usage={"average": rng.choice([500, 9_000]), "num_requests": 4},
                )
                for number in range(200)
            ]
        )
        settle(organization)
    return acme


def voice(rng):
    return rng.choice([["elevenlabs_tts"], ["openai_tts"], []])


@pytest.mark.parametrize("dimension", Dimension)
def test_i09_a_breakdown_adds_up_to_the_total_of_its_days(many, dimension):
    total = rollups.total(many.pk, **DAYS)
    parts = breakdowns.totals(many.pk, dimension, **DAYS)
    assert sum(part.micros for part in parts) == total.micros > 0
    if dimension is not Dimension.COMPONENT:
        assert sum(part.calls for part in parts) == total.calls == 200
        assert sum(part.duration_ms for part in parts) == total.duration_ms
    assert [part.micros for part in parts] == sorted((part.micros for part in parts), reverse=True)
    shown = [part.value for part in parts[:2] if part.value]
    days = breakdowns.by_day(many.pk, dimension, **DAYS, values=shown)
    assert sum(days.values()) == total.micros
    for part in parts:
        if part.value in shown:
            assert sum(micros for (_, value), micros in days.items() if value == part.value) == part.micros


@pytest.mark.parametrize(
    "before", [None, (date(2026, 9, 1), date(2026, 9, 12)), (date(2026, 10, 3), date(2026, 10, 8))]
)
@pytest.mark.parametrize("dimension", Dimension)
def test_one_read_says_what_several_said(many, dimension, before):
    days = (date(2026, 10, 2), date(2026, 10, 7))
    found = breakdowns.compared(many.pk, dimension, days=days, before=before, told=2)
    span = {"starts_on": days[0], "ends_on": days[1]}
    parts = breakdowns.totals(many.pk, dimension, **span)
    assert sorted(found.parts, key=str) == sorted(parts, key=str)
    assert [part.micros for part in found.parts] == [part.micros for part in parts]
    dearest = [part.value for part in parts if part.value][:2]
    assert found.told == dearest
    assert found.by_day == breakdowns.by_day(many.pk, dimension, **span, values=dearest)
    was = breakdowns.totals(many.pk, dimension, starts_on=before[0], ends_on=before[1]) if before else []
    assert sorted(found.before, key=str) == sorted(was, key=str)


def test_all_values_are_told_where_no_number_is_given_also_those_that_no_call_has(many):
    found = breakdowns.compared(
        many.pk, Dimension.COMPONENT, days=(DAYS["starts_on"], DAYS["ends_on"]), before=None, told=None
    )
    assert set(found.told) == {part.value for part in found.parts}
    assert None not in {value for _, value in found.by_day}


def test_the_totals_of_days_are_those_of_their_span(many):
    first, second = (date(2026, 10, 2), date(2026, 10, 7)), (date(2026, 10, 6), date(2026, 10, 9))
    totals = rollups.totals_by_day(many.pk, first, second)
    assert min(totals) >= first[0]
    assert max(totals) <= second[1]
    for starts_on, ends_on in (first, second):
        assert rollups.sum_of(totals, starts_on, ends_on) == rollups.total(
            many.pk, starts_on=starts_on, ends_on=ends_on
        )


def test_a_call_of_two_models_is_of_both_together_and_one_of_none_of_none(many):
    wanted: Counter[str | None] = Counter()
    own: Counter[str | None] = Counter()
    for charge in all_charges(organization=many):
        models = sorted(set(charge.call.mix.products) & set(MODELS))
        value = " + ".join(models) or None
        wanted[value] += charge.amount_micros
        own[value] += sum(line.micros for line in charge.lines if line.component == "llm")
    parts = breakdowns.totals(many.pk, Dimension.MODEL, **DAYS)
    assert {part.value: part.micros for part in parts} == dict(wanted)
    assert {part.value: part.own_micros or 0 for part in parts} == dict(own)
    assert None in wanted
    assert any(" + " in value for value in wanted if value)


def test_an_agent_is_its_reference_under_its_newest_name(many):
    totals = breakdowns.totals(many.pk, Dimension.AGENT, **DAYS)
    parts = {part.value: part for part in breakdowns.labelled(many.pk, Dimension.AGENT, totals)}
    assert set(parts) == {"agent_1", "agent_2", None}
    assert parts["agent_1"].label in {"Front desk", "Night"}
    assert parts["agent_1"].calls == Call.objects.filter(organization=many, agent__reference="agent_1").count()


@pytest.mark.parametrize("dimension", Dimension)
def test_i16_a_breakdown_is_of_one_organization_and_its_days(many, other, dimension):
    later = {"starts_on": date(2026, 10, 12), "ends_on": date(2026, 11, 12)}
    assert breakdowns.totals(many.pk, dimension, **later) == []
    assert breakdowns.by_day(many.pk, dimension, **later, values=[]) == {}
    ours, theirs = (breakdowns.totals(each.pk, dimension, **DAYS) for each in (many, other))
    assert sum(part.micros for part in ours) != sum(part.micros for part in theirs)


def test_a_breakdown_asks_as_often_for_many_values_as_for_few(many):
    with CaptureQueriesContext(connection) as queries:
        breakdowns.labelled(many.pk, Dimension.AGENT, breakdowns.totals(many.pk, Dimension.AGENT, **DAYS))
    assert len(queries) == 2
