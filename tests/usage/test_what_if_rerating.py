"""A month under another choice equals every call of it rated again by `rating.rate`, to the micro."""

import random
import uuid
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.usage.conftest import call_object
from tests.usage.test_rating import LIST_PRICES, PRODUCTS
from usage import prices, rating, rollup_upkeep, rollups
from usage.models import Call, CallRange, ProductMix
from usage.rating import CallFacts
from usage.what_if import choices, rerating
from usage.what_if.choices import Choice

pytestmark = pytest.mark.django_db
OCTOBER = date(2026, 10, 1)
VOICES, MODELS, LINES = (
    [each for each in PRODUCTS if LIST_PRICES.rates[each].component == component]
    for component in ("voice", "llm", "telephony")
)


def calls(count, seed=1):
    """Return calls of every kind: not connected, of a millisecond, of many models, with and without tokens."""
    rng = random.Random(seed)
    return [
        call_object(
            f"call_{seed}_{number}",
            start_timestamp=(datetime(2026, 10, 1, tzinfo=UTC) + timedelta(minutes=number)).isoformat(),
            end_timestamp=...,
            duration_ms=rng.choice([0, 1, 4_999, 5_000, 9_999, 30_000, 60_000, 60_001, rng.randrange(10**6)]),
            products=[
                *rng.sample(VOICES, rng.choice([0, 1, 1, 2])),
                *rng.sample(MODELS, rng.choice([0, 1, 1, 2, 3])),
                *rng.sample(LINES, rng.choice([0, 1])),
                *rng.sample(["platform", "knowledge_base", "branded_call"], rng.randrange(4)),
            ]
            or ["platform"],
            llm_token_usage={"average": rng.randrange(9_000) + 0.5, "num_requests": rng.choice([0, 2, 4, 20])},
        )
        for number in range(count)
    ]


@pytest.fixture
def used(priced, acme, record, settle):
    record(*calls(150))
    settle(acme)
    return acme


def one_by_one(organization, choice):
    """Return the month as `rating.rate` prices each call of it under the choice."""
    sums: Counter[str] = Counter()
    mixes = {mix.pk: mix for mix in ProductMix.objects.all()}
    for call in Call.objects.filter(organization=organization):
        mix = mixes[call.mix_id]
        charged = prices.snapshot(mix.price_version_id)
        snapshot = charged if choice.plan is None else prices.snapshot(choice.plan)
        names = choices.replaced(mix.products, charged, choice.products)
        if snapshot.unpriced(names):
            names, snapshot = tuple(mix.products), charged
        facts = CallFacts(call.duration_ms, names, call.llm_tokens, call.llm_requests)
        for line in rating.rate(facts, snapshot).lines:
            sums[line.component] += line.micros
    return {component: micros for component, micros in sums.items() if micros}


def told(amounts):
    return {component: micros for component, micros in amounts.items() if micros}


optional = {"voice": VOICES, "llm": MODELS, "telephony": LINES}


def plan(rng, now):
    """Return the id of prices with any rules, in a book that nobody else uses."""
    rates = [
        {
            "product": product,
            "component": LIST_PRICES.rates[product].component,
            "unit": rng.choice(["minute", "minute", "second", "call", "thousand_tokens"]),
            "rate": f"{rng.choice([0, 1, rng.randrange(10**7)]) / 10**6:.6f}",
            "minimum_ms": rng.choice([0, 0, 1, 999, 10_000, 60_000]),
            "increment_ms": rng.choice([1, 7, 1_000, 6_000, 60_000]),
        }
        for product in rng.choice([PRODUCTS, PRODUCTS, PRODUCTS[::2]])
    ]
    if rng.random() < 0.8:
        rates.append({"product": "llm_token_surcharge", "component": "token_surcharge", "unit": "surcharge"})
    version = {
        "number": 1,
        "starts_at": datetime(2026, 1, 1, tzinfo=UTC),
        "grace_ms": rng.choice([0, 5_000]),
        "free_ms": rng.choice([0, 30_000]),
        "token_threshold": rng.choice([0, 1, 3_500]),
        "rates": rates,
    }
    book = {"reference": f"plan-{uuid.uuid4()}", "name": "Plan", "currency": "USD", "versions": [version]}
    return prices.load({"books": [book]}, now=now)[0].pk


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    products=st.fixed_dictionaries({name: st.sampled_from(["", *some]) for name, some in optional.items()}),
)
def test_any_plan_with_any_rules_and_products_equals_rating_each_call(used, now, seed, products):
    choice = Choice(plan=plan(random.Random(seed), now), **products)
    assert told(rerating.month(used.pk, OCTOBER, choice).then) == one_by_one(used, choice)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(products=st.fixed_dictionaries({name: st.sampled_from(["", *some]) for name, some in optional.items()}))
def test_another_product_at_the_prices_as_charged_equals_rating_each_call(used, products):
    choice = Choice(**products)
    rated = rerating.month(used.pk, OCTOBER, choice)
    assert told(rated.then) == one_by_one(used, choice)
    assert told(rated.now) == told(rollups.component_totals(used.pk, OCTOBER))


def test_the_same_plan_changes_nothing(used, now):
    plan = prices.public("USD", at=now)[0].version_id
    rated = rerating.month(used.pk, OCTOBER, Choice(plan=plan))
    assert told(rated.then) == told(rated.now)
    assert (rated.calls, rated.kept_calls) == (150, 0)


def test_calls_that_the_plan_cannot_price_keep_their_charge_and_are_counted(used, now):
    rate = {"product": "platform", "component": "platform", "unit": "minute", "rate": "1"}
    version = {"number": 1, "starts_at": datetime(2026, 1, 1, tzinfo=UTC), "rates": [rate]}
    [plan] = prices.load(
        {"books": [{"reference": "thin", "name": "Thin", "currency": "USD", "versions": [version]}]}, now=now
    )
    rated = rerating.month(used.pk, OCTOBER, Choice(plan=plan.pk))
    alone = ProductMix.objects.filter(products=["platform"])
    assert rated.kept_calls == 150 - Call.objects.filter(mix__in=alone).count()
    assert told(rated.then) == one_by_one(used, Choice(plan=plan.pk))


def test_what_a_correction_was_charged_stays(used):
    """A later revision of a call whose mix the choice changes, as settlement leaves it: seven micros more."""
    call = Call.objects.filter(organization=used, mix__products__overlap=MODELS, amount_micros__gt=0).last()
    settled = CallRange.objects.filter(organization=used).latest("last_id")
    choice = Choice(llm=next(each for each in MODELS if each not in call.mix.products), voice="openai_tts")
    before = rerating.month(used.pk, OCTOBER, choice)
    later_id = settled.last_id + 1
    fields = {field.attname: getattr(call, field.attname) for field in Call._meta.concrete_fields}
    Call.objects.create(**{**fields, "id": later_id, "revision": 2, "line_micros": [7], "amount_micros": 7})
    CallRange.objects.create(
        organization=used,
        first_id=later_id,
        last_id=later_id,
        starts_at=call.started_at,
        ends_at=call.started_at,
        micros=7,
        received_at=call.started_at,
        first_sequence=settled.first_sequence + settled.last_id - settled.first_id + 1,
        billed_month=OCTOBER,
        time_zone="UTC",
    )
    rollup_upkeep.rebuild(used.pk)
    after = rerating.month(used.pk, OCTOBER, choice)
    for side in ("now", "then"):
        assert sum(getattr(after, side).values()) - sum(getattr(before, side).values()) == 7
    assert after.calls == before.calls
