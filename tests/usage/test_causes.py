from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.usage.test_rating import LIST_PRICES, PRODUCTS, facts_of, snapshots
from usage import causes
from usage.causes import Cause, Period, Priced, Unit
from usage.rating import CallFacts, rate
from usage.snapshots import assemble

calls_of = st.lists(facts_of, max_size=8)
# Fractions of random numbers are long; how long they take is no subject here.
unhurried = settings(deadline=None)


def period(calls, snapshot):
    """Return what the cube would hold of these calls."""
    sums = defaultdict(lambda: [0, 0, 0, 0])
    for facts in calls:
        rating = rate(facts, snapshot)
        named = snapshot.rates_of(facts.products) + ((snapshot.surcharge,) if snapshot.surcharge else ())
        micros = rating.line_micros + (0,) * (len(named) - len(rating.line_micros))
        for each, amount in zip(named, micros, strict=True):
            for place, value in enumerate((1, facts.duration_ms, facts.llm_tokens, amount)):
                sums[each][place] += value
    return Period(
        len(calls),
        sum(facts.duration_ms for facts in calls),
        sum(facts.llm_tokens for facts in calls),
        tuple(
            Priced(each.component, each.product, each.unit, each.rate_micros, rules_of(each, snapshot), *values)
            for each, values in sums.items()
        ),
    )


def rules_of(rate_, snapshot):
    threshold = snapshot.token_threshold if rate_.unit == Unit.SURCHARGE else 0
    return (rate_.minimum_ms, rate_.increment_ms, snapshot.grace_ms, snapshot.free_ms, threshold)


def repriced(snapshot, by):
    """Return the same prices with every rate multiplied."""
    rates = [replace(each, rate_micros=each.rate_micros * by) for each in snapshot.rates.values()]
    rates += [snapshot.surcharge] if snapshot.surcharge else []
    limits = (snapshot.grace_ms, snapshot.free_ms, snapshot.token_threshold)
    return assemble(rates, 2, "book", 2, "USD", snapshot.starts_at, *limits)


def nonzero(explanation):
    return {cause for cause, micros in explanation.parts.items() if micros}


@unhurried
@given(calls_of, calls_of, snapshots(), snapshots())
def test_the_parts_add_up_to_the_micro_for_every_product(first, second, old, new):
    before, after = period(first, old), period(second, new)
    explained = causes.explain(before, after)
    assert all(type(micros) is int for each in explained.products for micros in each.parts.values())
    assert all(sum(each.parts.values()) == each.micros for each in explained.products)
    assert sum(explained.parts.values()) == explained.micros == after.micros - before.micros


@unhurried
@given(calls_of, calls_of, snapshots(), snapshots())
def test_looking_back_gives_the_same_parts_with_the_other_sign(first, second, old, new):
    before, after = period(first, old), period(second, new)
    there, back = causes.explain(before, after).products, causes.explain(after, before).products
    assert {each.product: dict(each.parts) for each in there} == {
        each.product: {cause: -micros for cause, micros in each.parts.items()} for each in back
    }


@unhurried
@given(calls_of, snapshots())
def test_equal_periods_have_no_causes(calls, prices):
    assert nonzero(causes.explain(period(calls, prices), period(list(reversed(calls)), prices))) == set()


@unhurried
@given(calls_of, snapshots(), st.integers(2, 5))
def test_the_same_calls_more_often_are_volume_alone(calls, prices, times):
    explained = causes.explain(period(calls, prices), period(calls * times, prices))
    assert nonzero(explained) <= {Cause.VOLUME}
    assert explained.parts[Cause.VOLUME] == explained.before.micros * (times - 1)


@unhurried
@given(calls_of, snapshots(), st.integers(2, 5))
def test_the_same_calls_at_other_rates_are_price_alone(calls, prices, by):
    explained = causes.explain(period(calls, prices), period(calls, repriced(prices, by)))
    assert nonzero(explained) <= {Cause.PRICE}


@unhurried
@given(calls_of, snapshots(), snapshots())
def test_under_the_same_prices_no_part_is_the_prices(calls, prices, others):
    for snapshot in (prices, others):
        assert Cause.PRICE not in nonzero(causes.explain(period(calls[::2], snapshot), period(calls, snapshot)))


@unhurried
@given(st.lists(facts_of, min_size=1, max_size=8), st.integers(0, 10**7))
def test_more_tokens_alone_are_tokens_alone(calls, more):
    wordier = [CallFacts(each.duration_ms, each.products, each.llm_tokens + more, each.llm_requests) for each in calls]
    assert nonzero(causes.explain(period(calls, LIST_PRICES), period(wordier, LIST_PRICES))) <= {Cause.TOKENS}


@unhurried
@given(st.integers(1, 50), st.integers(0, 10**6), st.integers(0, 10**6))
def test_longer_calls_of_the_same_products_are_duration_alone(count, short_ms, more_ms):
    names = ("elevenlabs_tts", "gpt_4o", "retell_twilio")
    first, second = ([CallFacts(ms, names)] * count for ms in (short_ms, short_ms + more_ms))
    assert nonzero(causes.explain(period(first, LIST_PRICES), period(second, LIST_PRICES))) <= {Cause.DURATION}


@unhurried
@given(
    calls_of.filter(bool), st.sampled_from([each for each in PRODUCTS if LIST_PRICES.rates[each].component == "llm"])
)
def test_another_model_in_every_call_is_mix_alone(calls, model):
    """Also with a surcharge on top, whose share stays but for the rounding of money."""
    first = [CallFacts(each.duration_ms, ("gpt_4o", "platform"), each.llm_tokens, each.llm_requests) for each in calls]
    second = [CallFacts(each.duration_ms, (model, "platform"), each.llm_tokens, each.llm_requests) for each in calls]
    assert nonzero(causes.explain(period(first, LIST_PRICES), period(second, LIST_PRICES))) <= {Cause.MIX}


def test_an_example_one_can_follow():
    """100 calls of a minute become 150 of two; half of them take GPT-4o instead of the mini model."""
    mini = CallFacts(60_000, ("gpt_4o_mini",))
    first = period([mini] * 100, LIST_PRICES)
    second = period([CallFacts(120_000, ("gpt_4o_mini",)), CallFacts(120_000, ("gpt_4o",))] * 75, LIST_PRICES)
    explained = causes.explain(first, second)
    assert (first.micros, second.micros) == (600_000, 8_400_000)
    # The mini model: 100 calls × 1 minute × 100 % become 150 × 2 × 50 % at 6,000. 50 more calls cost 50 × 6,000 as the
    # first change, 50 × 12,000 after the calls' doubling, half of these after the halving of its share.
    parts = {each.product: each.parts for each in explained.products}
    assert parts["gpt_4o_mini"][Cause.VOLUME] == (2 * 300_000 + 600_000 + 150_000 + 2 * 300_000) / 6
    assert parts["gpt_4o"][Cause.PRICE] == 0
    assert sum(explained.parts.values()) == 7_800_000
    assert nonzero(explained) == {Cause.VOLUME, Cause.DURATION, Cause.MIX}


def test_a_price_from_nothing_is_price_alone():
    calls = [CallFacts(61_500, ("custom_telephony",))] * 7
    free = assemble([LIST_PRICES.rates["custom_telephony"]], 1, "b", 1, "USD", LIST_PRICES.starts_at, 0, 0, 0)
    paid_rate = replace(LIST_PRICES.rates["custom_telephony"], rate_micros=5_000)
    paid = assemble([paid_rate], 2, "b", 2, "USD", LIST_PRICES.starts_at, 0, 0, 0)
    explained = causes.explain(period(calls, free), period(calls, paid))
    assert explained.parts[Cause.PRICE] == explained.micros == 7 * 5_167


def test_other_rules_at_the_same_rate_are_price_alone():
    calls = [CallFacts(61_500, ("gpt_4o",))] * 7
    by_the_minute = replace(LIST_PRICES.rates["gpt_4o"], increment_ms=60_000)
    coarse = assemble([by_the_minute], 2, "b", 2, "USD", LIST_PRICES.starts_at, 0, 0, 0)
    assert nonzero(causes.explain(period(calls, LIST_PRICES), period(calls, coarse))) == {Cause.PRICE}


def test_money_without_a_quantity_is_a_correction():
    plain = Priced("llm", "gpt_4o", "minute", 50_000, (0, 1000, 0, 0, 0), 0, 0, 0, 1_234)
    explained = causes.explain(Period(), Period(0, 0, 0, (plain,)))
    assert explained.parts[Cause.CORRECTIONS] == explained.micros == 1_234


def test_from_nothing_to_something_is_volume():
    explained = causes.explain(Period(), period([CallFacts(97_000, ("gpt_4o",), 90_000, 8)] * 3, LIST_PRICES))
    assert nonzero(explained) == {Cause.VOLUME}


@unhurried
@given(st.lists(st.fractions(), min_size=1, max_size=5), st.lists(st.fractions(), min_size=5, max_size=5))
def test_the_parts_of_factors_add_up_to_the_change_of_their_product(before, after):
    after = after[: len(before)]
    first, second = Fraction(1), Fraction(1)
    for one, other in zip(before, after, strict=True):
        first, second = first * one, second * other
    assert sum(causes.shapley(before, after)) == second - first
