import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage import call_objects, price_documents, prices
from usage.rating import AmountOutOfRange, CallFacts, ProductsUnpriced, rate
from usage.snapshots import Rate, assemble

PARLEY = Path(prices.__file__).parent / "price_books" / "parley.toml"
LIST_PRICES = price_documents.snapshots(tomllib.loads(PARLEY.read_text()))[0]
NOW = datetime(2026, 10, 15, tzinfo=UTC)
REAL_CALL = b"""{
    "call_id": "Jabr9TXYYJHfvl6Syypi88rdAHYHmcq6", "call_type": "web_call", "call_status": "ended",
    "start_timestamp": 1760000000000, "duration_ms": 97000,
    "llm_token_usage": {"average": 4982.25, "num_requests": 8},
    "call_cost": {"product_costs": [
        {"product": "elevenlabs_tts", "cost": 11.3166667}, {"product": "gemini_2_0_flash", "cost": 0.97},
        {"product": "llm_token_surcharge", "cost": 0.42},
        {"product": "background_voice_cancellation", "cost": 0.8083333},
        {"product": "post_call_analysis_gpt_4o", "cost": 1.7}
    ], "combined_cost": 15.215}
}"""


def test_the_real_call_costs_152150_micros_line_by_line():
    facts = call_objects.decode(REAL_CALL, now=NOW).facts
    rating = rate(facts, LIST_PRICES)
    assert {line.product: (line.quantity, line.micros) for line in rating.lines} == {
        "elevenlabs_tts": (97_000, 113_167),
        "gemini_2_0_flash": (97_000, 9_700),
        "llm_token_surcharge": (42_000, 4_200),
        "background_voice_cancellation": (97_000, 8_083),
        "post_call_analysis_gpt_4o": (1, 17_000),
    }
    assert rating.amount_micros == 152_150


PRODUCTS = sorted(LIST_PRICES.rates)
products = st.lists(st.sampled_from(PRODUCTS), max_size=8, unique=True).map(lambda names: tuple(sorted(names)))
facts_of = st.builds(
    CallFacts,
    duration_ms=st.integers(0, call_objects.MAX_DURATION_MS),
    products=products,
    llm_tokens=st.integers(0, 10**7),
    llm_requests=st.integers(0, 10_000),
)
units = st.sampled_from(["minute", "second", "call", "thousand_tokens"])


@st.composite
def snapshots(draw):
    rates = [
        Rate(
            id=number,
            component=LIST_PRICES.rates[product].component,
            product=product,
            label="",
            unit=draw(units),
            rate_micros=draw(st.integers(0, 10**9)),
            minimum_ms=draw(st.sampled_from([0, 1, 999, 10_000, 60_000])),
            increment_ms=draw(st.sampled_from([1, 1000, 6000, 60_000])),
        )
        for number, product in enumerate(PRODUCTS, start=1)
    ]
    if draw(st.booleans()):
        rates.append(Rate(99, "token_surcharge", "llm_token_surcharge", "", "surcharge", 0, 0, 1000))
    grace_ms, free_ms = draw(st.sampled_from([0, 5_000])), draw(st.sampled_from([0, 30_000]))
    threshold = draw(st.sampled_from([0, 1, 3500]))
    return assemble(rates, 1, "book", 1, "USD", NOW, grace_ms, free_ms, threshold)


@given(facts_of, snapshots())
def test_amounts_are_whole_never_negative_and_the_sum_of_their_lines(facts, snapshot):
    rating = rate(facts, snapshot)
    assert all(type(number) is int and number >= 0 for line in rating.lines for number in (line.quantity, line.micros))
    assert rating.amount_micros == sum(line.micros for line in rating.lines)
    assert rating == rate(facts, snapshot)


@given(facts_of, snapshots(), st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(PRODUCTS))
def test_i17_more_usage_never_lowers_the_charge(facts, snapshot, more_ms, more_tokens, another):
    less = rate(facts, snapshot).amount_micros
    longer = CallFacts(facts.duration_ms + more_ms, facts.products, facts.llm_tokens, facts.llm_requests)
    wordier = CallFacts(facts.duration_ms, facts.products, facts.llm_tokens + more_tokens, facts.llm_requests)
    richer_products = tuple(sorted({*facts.products, another}))
    richer = CallFacts(facts.duration_ms, richer_products, facts.llm_tokens, facts.llm_requests)
    for more in (longer, wordier, richer):
        assert rate(more, snapshot).amount_micros >= less


def one_rate(*, unit="minute", micros=60_000, grace_ms=0, free_ms=0, minimum_ms=0, increment_ms=1000):
    only = Rate(1, "platform", "platform", "", unit, micros, minimum_ms, increment_ms)
    return assemble([only], 1, "book", 1, "USD", NOW, grace_ms, free_ms, 3500)


@pytest.mark.parametrize(
    ("duration_ms", "rules", "billed_ms"),
    [
        (1, {}, 1000),
        (1000, {}, 1000),
        (1001, {}, 2000),
        (1001, {"increment_ms": 1}, 1001),
        (6001, {"increment_ms": 6000}, 12_000),
        (1, {"increment_ms": 60_000}, 60_000),
        (3000, {"minimum_ms": 10_000}, 10_000),
        (10_001, {"minimum_ms": 10_000}, 11_000),
        (3000, {"minimum_ms": 10_000, "increment_ms": 6000}, 12_000),
        (0, {"minimum_ms": 10_000}, 0),
        (4999, {"grace_ms": 5000}, 0),
        (5000, {"grace_ms": 5000}, 5000),
        (30_000, {"free_ms": 30_000}, 0),
        (30_001, {"free_ms": 30_000}, 1000),
        (30_001, {"free_ms": 30_000, "minimum_ms": 10_000}, 10_000),
    ],
)
def test_minimum_increment_grace_and_free_time_are_rules_of_the_version(duration_ms, rules, billed_ms):
    rating = rate(CallFacts(duration_ms, ("platform",)), one_rate(**rules))
    assert sum(line.quantity for line in rating.lines) == billed_ms
    assert rating.amount_micros == billed_ms  # 60,000 micros a minute are one a millisecond


@pytest.mark.parametrize(
    ("unit", "micros"), [("minute", 500), ("second", 30_000), ("call", 300), ("thousand_tokens", 450)]
)
def test_every_unit_bills_its_own_quantity(unit, micros):
    facts = CallFacts(100_000, ("platform",), llm_tokens=1500, llm_requests=1)
    assert rate(facts, one_rate(unit=unit, micros=300)).amount_micros == micros


def test_half_a_micro_is_charged_as_one():
    assert rate(CallFacts(1, ("platform",)), one_rate(micros=30_000, increment_ms=1)).amount_micros == 1
    assert rate(CallFacts(1, ("platform",)), one_rate(micros=29_999, increment_ms=1)).amount_micros == 0


@pytest.mark.parametrize(
    ("tokens", "requests", "seconds"),
    [(28_000, 8, 0), (28_001, 8, 1), (39_858, 8, 42), (56_000, 8, 97), (100, 0, 0)],
)
def test_tokens_above_the_threshold_lengthen_the_language_models_time(tokens, requests, seconds):
    facts = CallFacts(97_000, ("gemini_2_0_flash",), tokens, requests)
    surcharge = [line.quantity for line in rate(facts, LIST_PRICES).lines if line.product == "llm_token_surcharge"]
    assert sum(surcharge) == seconds * 1000


def test_a_product_without_a_price_is_named_and_never_guessed():
    with pytest.raises(ProductsUnpriced) as raised:
        rate(CallFacts(1000, ("gpt_9", "platform", "a_voice")), LIST_PRICES)
    assert raised.value.products == ["a_voice", "gpt_9"]


def test_an_amount_that_no_column_holds_is_refused():
    with pytest.raises(AmountOutOfRange):
        rate(CallFacts(10**12, ("platform",)), one_rate(unit="second", micros=10**11))
