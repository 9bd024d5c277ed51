import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.usage.conftest import call_object, raw
from usage import call_objects
from usage.call_objects import CallRejected

NOW = datetime(2026, 10, 15, 9, 30, tzinfo=UTC)
START = datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC)


def read(**fields):
    return call_objects.decode(raw(call_object(**fields)), now=NOW)


def rejected(text):
    with pytest.raises(CallRejected) as raised:
        call_objects.decode(text, now=NOW)
    return raised.value


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def test_a_call_object_is_read_into_facts():
    call = read(
        call_cost={"product_costs": [{"product": "branded_call", "cost": 1.5}], "combined_cost": 3},
        add_ons=["knowledge_base"],
        llm_model="gpt_4o",
        llm_token_usage={"values": [1000, 2000], "average": 1500, "num_requests": 2},
    )
    assert call.started_at == START
    assert call.ended_at - call.started_at == timedelta(seconds=97)
    assert call.facts.duration_ms == 97_000
    assert call.facts.products == (
        "branded_call", "elevenlabs_tts", "gpt_4o", "gpt_4o_mini", "knowledge_base", "platform",
    )  # fmt: skip
    assert (call.facts.llm_tokens, call.facts.llm_requests) == (3000, 2)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"call_id": ...}, "call_id"),
        ({"call_id": ""}, "call_id"),
        ({"call_id": "x" * 129}, "call_id"),
        ({"call_id": 7}, "call_id"),
        ({"call_id": "a\x00b"}, "call_id"),
        ({"call_type": ...}, "call_type"),
        ({"call_status": "ongoing"}, "call_status"),
        ({"call_status": "registered"}, "call_status"),
        ({"duration_ms": -1}, "duration_ms"),
        ({"duration_ms": 97.5}, "duration_ms"),
        ({"duration_ms": "97000"}, "duration_ms"),
        ({"duration_ms": 2**63}, "duration_ms"),
        ({"duration_ms": ..., "end_timestamp": ...}, "duration_ms"),
        ({"start_timestamp": ...}, "start_timestamp"),
        ({"start_timestamp": 1_760_000_000}, "start_timestamp"),
        ({"start_timestamp": 2**70}, "start_timestamp"),
        ({"start_timestamp": -1}, "start_timestamp"),
        ({"start_timestamp": "2025-10-09 08:53"}, "start_timestamp"),
        ({"start_timestamp": "2025-10-09T08:53:20"}, "start_timestamp"),
        ({"start_timestamp": "2025-02-29T08:53:20Z"}, "start_timestamp"),
        ({"start_timestamp": "2025-10-09T08:53:61Z"}, "start_timestamp"),
        ({"start_timestamp": "2025-10-09T08:53:20+05:75"}, "start_timestamp"),
        ({"start_timestamp": True}, "start_timestamp"),
        ({"start_timestamp": "2026-10-15T09:35:01Z", "end_timestamp": ...}, "start_timestamp"),
        ({"end_timestamp": 1_759_999_999_999}, "end_timestamp"),
        ({"end_timestamp": "2026-10-16T00:00:00Z"}, "end_timestamp"),
        ({"end_timestamp": "2026-10-15T00:00:00Z", "duration_ms": ...}, "end_timestamp"),
        ({"products": "platform"}, "products"),
        ({"products": ["platform", 5]}, "products[1]"),
        ({"products": [f"product_{number}" for number in range(65)]}, "products"),
        ({"add_ons": [""]}, "add_ons[0]"),
        ({"llm_model": ["gpt_4o"]}, "llm_model"),
        ({"organization": 5}, "organization"),
        ({"metadata": "text"}, "metadata"),
        ({"metadata": {"a": {"b": "\x00"}}}, "metadata.a.b"),
        ({"metadata": {"deep": nested(70)}}, "metadata"),
        ({"extra_field": nested(70)}, "extra_field"),
        ({"llm_token_usage": {"values": [-1]}}, "llm_token_usage.values"),
        ({"llm_token_usage": {"average": 5, "num_requests": 1.5}}, "llm_token_usage.num_requests"),
        ({"llm_token_usage": {"average": -5, "num_requests": 1}}, "llm_token_usage"),
        ({"llm_token_usage": {"average": 10**9, "num_requests": 2}}, "llm_token_usage"),
        ({"call_cost": {"product_costs": [{"cost": 1}]}}, "call_cost.product_costs[0].product"),
        ({"call_cost": {"product_costs": {"product": "x"}}}, "call_cost.product_costs"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(fields, field):
    error = rejected(raw(call_object(**fields)))
    assert error.field == field
    assert error.reason.endswith(".")


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"5", b"[]", b'"call"', b'{"call_id": "\\ud800"}', b'{"call_id": "\xff"}', b"{", b"[" * 100_000,
     b'{"call_id": "x", "extra": ' + b"[" * 5000 + b"]" * 5000 + b"}"],
)  # fmt: skip
def test_what_is_no_call_object_is_rejected_as_a_whole(text):
    assert rejected(text).reason


def test_an_item_of_more_than_a_mebibyte_is_rejected():
    assert "larger" in rejected(raw(call_object(transcript="x" * 1024 * 1024))).reason


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        (1_760_000_000_000, START),
        ("2025-10-09T08:53:20Z", START),
        ("2025-10-09t08:53:20z", START),
        ("2025-10-09T14:23:20+05:30", START),
        ("2025-10-09T14:38:20+05:45", START),
        ("2025-10-09T05:23:20-03:30", START),
        ("2025-10-09T08:53:20.000000999Z", START),
        ("2025-10-09T08:53:20,5Z", START + timedelta(milliseconds=500)),
        ("2025-10-09T08:52:60Z", START - timedelta(seconds=20)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2016-12-31T23:59:60.5Z", datetime(2017, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_f46_instants_are_read_in_every_usual_spelling(text, instant):
    assert read(start_timestamp=text, end_timestamp=..., duration_ms=1).started_at == instant


def test_a_start_may_be_as_far_ahead_as_clocks_differ():
    ahead = NOW + call_objects.CLOCK_SKEW
    assert read(start_timestamp=ahead.isoformat(), end_timestamp=..., duration_ms=0).started_at == ahead


def test_a_call_that_was_never_connected_lasts_no_time():
    assert read(call_status="not_connected", duration_ms=..., end_timestamp=..., products=[]).facts.duration_ms == 0


def test_a_missing_duration_is_the_time_between_start_and_end():
    assert read(duration_ms=...).facts.duration_ms == 97_000


def test_null_means_that_a_field_is_not_there():
    empty = dict.fromkeys(("direction", "agent_id", "metadata", "call_cost", "llm_token_usage", "products"))
    assert read(**empty).facts.products == ()


def test_unknown_fields_are_kept_as_they_came_and_secrets_are_not():
    call = read(custom={"a": [1, 2.50, "x"]}, access_token="secret", recording_url="https://x/?sig=1")
    extra = json.loads(bytes(call.extra))
    assert extra["custom"] == {"a": [1, 2.5, "x"]}
    assert "access_token" not in extra


def test_a_mean_of_tokens_is_multiplied_before_it_is_rounded():
    usage = read(llm_token_usage={"average": 4982.25, "num_requests": 8}).facts
    assert (usage.llm_tokens, usage.llm_requests) == (39_858, 8)
    assert read(llm_token_usage={"values": [0.1] * 10}).facts.llm_tokens == 1
    assert read(llm_token_usage={"values": [0.25, 0.25]}).facts.llm_tokens == 1


def test_a_key_that_stands_twice_means_its_last_value():
    text = raw(call_object()).replace(b'"duration_ms": 97000', b'"duration_ms": 1, "duration_ms": 97000')
    assert call_objects.decode(text, now=NOW).digest == read().digest


@pytest.mark.parametrize(
    "fields",
    [
        {"start_timestamp": "2025-10-09T10:53:20+02:00"},
        {"products": ["gpt_4o_mini", "platform", "elevenlabs_tts", "platform"]},
        {"products": ["platform", "gpt_4o_mini"], "voice_engine": "elevenlabs_tts"},
        {"recording_url": "https://x/?signature=2"},
        {"organization": "other"},
    ],
)
def test_another_spelling_of_the_same_content_has_the_same_digest(fields):
    assert read(**fields).digest == read().digest


@pytest.mark.parametrize(
    "fields",
    [
        {"duration_ms": 97_001},
        {"products": ["platform"]},
        {"metadata": {"a": 1}},
        {"custom": 1},
        {"agent_name": "Another"},
        {"from_number": "+15550000000"},
        {"llm_token_usage": {"average": 1, "num_requests": 1}},
        {"end_timestamp": ...},
    ],
)
def test_f49_other_content_has_another_digest(fields):
    assert read(**fields).digest != read().digest


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*call_object(), "metadata", "call_cost", "llm_token_usage", "x"]), json_values))
def test_whatever_json_comes_it_is_read_or_rejected_with_a_reason(fields):
    try:
        extra = call_objects.decode(raw({**call_object(), **fields}), now=NOW).extra
    except CallRejected as error:
        extra = msgspec.json.encode(error.reason)
    assert msgspec.json.decode(extra) != ""


@given(st.binary(max_size=200))
def test_whatever_bytes_come_they_are_rejected_with_a_reason(text):
    assert rejected(text).reason
    assert call_objects.peek(text) == call_objects.Peeked()
