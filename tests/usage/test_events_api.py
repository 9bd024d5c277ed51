"""Events as other programs' clients send them: an envelope changes no call, and errors name what was sent."""

import base64
import json
from datetime import timedelta

import pytest
from django.test import Client

from tests.usage.conftest import READ, call_object, problem, raw
from usage import completeness
from usage.models import Call

pytestmark = pytest.mark.django_db
JSON, ONE, BATCH = "application/json", "application/cloudevents+json", "application/cloudevents-batch+json"
EACH = {"Prefer": "return=representation"}


@pytest.fixture(autouse=True)
def _frozen(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)


def cloud_event(event_id="call_1", **fields):
    event = {
        "specversion": "1.0",
        "id": event_id,
        "type": "call.ended",
        "source": "voice",
        "subject": "acme",
        "time": "2026-10-14T09:30:00Z",
        "data": {"call_type": "web_call", "duration_ms": 97_000, "products": ["platform", "elevenlabs_tts"]},
        **fields,
    }
    return {name: value for name, value in event.items() if value is not ...}


def lago_event(transaction_id="call_1", **fields):
    event = {
        "transaction_id": transaction_id,
        "external_subscription_id": "acme",
        "code": "call_ended",
        "timestamp": 1_760_000_097,
        "properties": {"call_type": "web_call", "duration_ms": 97_000, "products": ["platform", "elevenlabs_tts"]},
        **fields,
    }
    return {name: value for name, value in event.items() if value is not ...}


def post(client, body, content_type=ONE, path="/api/v1/events", **headers):
    text = body if isinstance(body, bytes) else raw(body)
    return client.post(path, text, content_type=content_type, headers=headers)


def each(client, body, content_type=BATCH, **headers):
    """Post and return what became of each event."""
    response = post(client, body, content_type, **EACH, **headers)
    assert response.status_code == 200, response.content
    return response.json()["items"]


# ── Every envelope means the same call ────────────────────────────────────────────────────────────────────────────────


def test_a_call_object_means_the_same_call_in_every_envelope(priced, acme, vendor):
    call = call_object("call_1", organization=...)
    assert post(vendor, [call | {"organization": "acme"}], JSON, "/api/v1/calls").json()["recorded"] == 1
    envelopes = [
        (cloud_event(data=call), ONE, {}),
        ([cloud_event("evt_7", data=call)], BATCH, {}),
        (cloud_event(data=call), JSON, {}),
        ([cloud_event(data=call | {"organization": None})], JSON, {}),
        (cloud_event(data=..., data_base64=base64.b64encode(raw(call)).decode()), ONE, {}),
        ({"event": lago_event(properties=call)}, JSON, {}),
        (
            {"events": [lago_event(properties=call, external_subscription_id=..., external_customer_id="acme")]},
            JSON,
            {},
        ),
        (call, JSON, {"ce-specversion": "1.0", "ce-id": "x", "ce-type": "call.ended", "ce-subject": "acme"}),
    ]
    for body, content_type, headers in envelopes:
        [item] = each(vendor, body, content_type, **headers)
        assert (item["status"], item["call_id"]) == ("duplicate", "call_1"), (body, item)


def test_what_the_data_lacks_comes_from_the_envelope(priced, acme, vendor):
    assert post(vendor, cloud_event()).status_code == 204
    call = Call.objects.get()
    assert (call.organization, call.call_id, call.kind.status, call.duration_ms) == (acme, "call_1", "ended", 97_000)
    assert call.started_at.isoformat() == "2026-10-14T09:28:23+00:00"
    assert call.ended_at.isoformat() == "2026-10-14T09:30:00+00:00"


def test_the_number_beside_the_source_is_seen_to_be_without_a_gap(priced, acme, vendor, now):
    headers = {"ce-specversion": "1.0", "ce-id": "call_3", "ce-type": "call.ended", "ce-subject": "acme"}
    headers |= {"ce-time": "2026-10-14T09:30:00Z", "ce-source": "voice", "ce-sequence": "4"}
    assert (
        post(vendor, [cloud_event("call_1", sequence="1"), cloud_event("call_2", sequence=2)], BATCH).status_code == 204
    )
    assert post(vendor, cloud_event()["data"], JSON, **headers).status_code == 204
    for without in ("2026-10-14T09:30:00Z", "", "1.5", "9" * 40, None):
        assert post(vendor, cloud_event("call_4", sequence=without)).status_code == 204
    (source,) = completeness.seal(acme.pk, now=now + timedelta(hours=1)).sources
    assert (source.name, source.first, source.last, source.missing) == ("voice", 1, 4, 1)


def test_a_number_in_the_data_stands(priced, acme, vendor, now):
    data = cloud_event()["data"] | {"source": "inner", "source_sequence": 7}
    assert post(vendor, cloud_event(data=data, sequence="1")).status_code == 204
    assert [source.name for source in completeness.seal(acme.pk, now=now).sources] == ["inner"]


def test_a_start_in_the_data_stands_and_the_time_is_not_asked(priced, acme, vendor):
    data = cloud_event()["data"] | {"start_timestamp": 1_760_000_000_000}
    assert post(vendor, cloud_event(data=data, time="nonsense")).status_code == 204
    assert (Call.objects.get().started_at.timestamp(), Call.objects.get().ended_at) == (1_760_000_000, None)


def test_an_end_in_the_data_is_where_the_length_counts_from(priced, acme, vendor):
    data = cloud_event()["data"] | {"end_timestamp": 1_760_000_097_000}
    assert post(vendor, cloud_event(data=data)).status_code == 204
    assert Call.objects.get().started_at.timestamp() == 1_760_000_000


@pytest.mark.parametrize("timestamp", [1_760_000_097, 1_760_000_097.0, "1760000097", "2025-10-09T08:54:57Z"])
def test_lagos_seconds_are_understood_in_every_spelling(priced, acme, vendor, timestamp):
    assert post(vendor, {"event": lago_event(timestamp=timestamp)}, JSON).status_code == 200
    assert Call.objects.get().ended_at.timestamp() == 1_760_000_097


@pytest.mark.parametrize("time", ["2026-10-14T12:30:00+03:00", "2026-10-14T05:00:00-0430", "2026-10-14T09:29:60Z"])
def test_f46_a_time_with_an_odd_offset_or_a_leap_second_is_the_instant_it_names(priced, acme, vendor, time):
    assert post(vendor, cloud_event(time=time)).status_code == 204
    assert Call.objects.get().ended_at.isoformat() == "2026-10-14T09:30:00+00:00"


def test_unknown_fields_of_the_data_are_kept(priced, acme, vendor):
    from usage.models import CallDetail

    data = cloud_event()["data"] | {"metadata": {"deal": 10**40}, "colour": {"deep": [1, None]}}
    assert post(vendor, cloud_event(data=data)).status_code == 204
    detail = CallDetail.objects.get()
    assert detail.metadata == {"deal": 10**40}
    assert detail.extra["colour"] == {"deep": [1, None]}


def test_how_an_event_travelled_is_no_part_of_its_content(priced, acme, vendor):
    data = call_object("call_1", organization=...)
    first, second = cloud_event("evt_1", data=data), cloud_event("evt_2", data=data, source="else", traceparent="00-1")
    assert [item["status"] for item in each(vendor, [first, second])] == ["recorded", "duplicate"]


def test_attributes_in_headers_are_percent_encoded(priced, acme, vendor):
    headers = {"ce-specversion": "1.0", "ce-id": "caf%C3%A9", "ce-type": "call.ended", "ce-subject": "acme"}
    assert post(vendor, call_object(..., organization=...), JSON, **headers).status_code == 204
    assert Call.objects.get().call_id == "café"


# ── Answers as each sender expects them ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("body", "content_type"), [(cloud_event(), ONE), ([cloud_event()], BATCH), ([], BATCH)])
def test_openmeters_clients_get_204_also_for_what_was_recorded_before(priced, acme, vendor, body, content_type):
    for _ in range(2):
        response = post(vendor, body, content_type)
        assert (response.status_code, response.content) == (204, b"")


def test_lagos_clients_get_their_event_back(priced, acme, vendor):
    event = post(vendor, {"event": lago_event()}, JSON).json()["event"]
    sent = lago_event()
    for name in ("transaction_id", "external_subscription_id", "code", "properties"):
        assert event[name] == sent[name]
    assert event["timestamp"] == "2025-10-09T08:54:57+00:00"
    assert event["created_at"]
    again = post(vendor, {"event": lago_event()}, JSON).json()["event"]
    assert again["lago_id"] == event["lago_id"]
    for path in ("/api/v1/events", "/api/v1/events/batch"):
        answer = post(vendor, {"events": [lago_event("a"), lago_event("b")]}, JSON, path).json()
        assert [event["transaction_id"] for event in answer["events"]] == ["a", "b"]


def test_every_event_is_answered_in_its_place_when_asked_for(priced, acme, vendor):
    events = [
        cloud_event("good"),
        cloud_event("odd", type="call.dreamt"),
        5,
        cloud_event("good", data=cloud_event()["data"] | {"duration_ms": 1}),
        cloud_event("unrated", data=cloud_event()["data"] | {"products": ["gpt_9"]}),
    ]
    response = post(vendor, events, BATCH, **EACH)
    answer = response.json()
    items = answer.pop("items")
    assert answer == {"recorded": 2, "duplicates": 0, "conflicts": 1, "rejected": 2}
    assert [(item["index"], item["id"], item["status"], item["field"], item["rated"]) for item in items] == [
        (0, "good", "recorded", None, True),
        (1, "odd", "rejected", "type", None),
        (2, None, "rejected", None, None),
        (3, "good", "conflict", "id", None),
        (4, "unrated", "recorded", None, False),
    ]
    assert "call.ended" in items[1]["reason"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ([cloud_event("good"), cloud_event("odd", type="dream")], BATCH),
        ({"events": [lago_event("good"), lago_event("odd", code="dream")]}, JSON),
    ],
)
def test_who_looks_at_the_status_alone_learns_that_some_were_refused(priced, acme, vendor, body, content_type):
    document = problem(post(vendor, body, content_type), 422, "events-refused")
    [refused] = document["refused"]
    assert (refused["index"], refused["id"], refused["status"]) == (1, "odd", "rejected")
    assert "1 of 2" in document["detail"]
    assert Call.objects.get().call_id == "good"


# ── What is wrong is named as it was sent ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"id": ...}, "id"), ({"id": ""}, "id"), ({"id": 5}, "id"), ({"id": "x" * 129}, "id"), ({"id": "\0"}, "id"),
        ({"type": ...}, "type"), ({"type": "call.dreamt"}, "type"), ({"type": "\0"}, "type"),
        ({"specversion": "0.3"}, "specversion"), ({"specversion": 1}, "specversion"),
        ({"subject": "nobody"}, "subject"), ({"subject": ...}, "subject"), ({"subject": "x" * 65}, "subject"),
        ({"subject": "other"}, None),  # another organization that exists: the vendor's key may
        ({"time": "yesterday"}, "time"), ({"time": "2026-10-14T09:30:00"}, "time"), ({"time": 5}, "time"),
        ({"time": "2030-01-01T00:00:00Z"}, "time"), ({"time": ...}, "data.start_timestamp"),
        ({"data": ...}, "data"), ({"data": None}, "data"), ({"data": []}, "data"), ({"data": "text"}, "data"),
        ({"data_base64": "AAAA"}, "data_base64"), ({"data": ..., "data_base64": "***"}, "data_base64"),
        ({"data": ..., "data_base64": base64.b64encode(b"{").decode()}, "data_base64"),
        ({"data": {}}, "data.call_type"),
        ({"data": call_object(duration_ms=-1, organization=...)}, "data.duration_ms"),
        ({"data": call_object(duration_ms=2**64, organization=...)}, "data.duration_ms"),
        ({"data": call_object(organization="other")}, "subject"),
        ({"data": call_object(organization=5)}, "subject"),
        ({"data": call_object(None, organization=...)}, "data.call_id"),
        ({"data": call_object(start_timestamp=None)}, "data.start_timestamp"),
        ({"data": call_object(metadata={"a": "\0"}, organization=...)}, "data.metadata.a"),
    ],
)  # fmt: skip
def test_an_error_names_the_field_of_the_event(priced, acme, other, vendor, fields, field):
    [good, bad] = each(vendor, [cloud_event("good"), cloud_event(**{"event_id": "bad"} | fields)])
    assert good["status"] == "recorded"
    assert bad["index"] == 1
    assert bad["status"] == ("rejected" if field else "recorded"), bad
    assert bad["field"] == field, bad
    assert bool(bad["reason"]) == bool(field)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"transaction_id": ...}, "transaction_id"), ({"code": "dream"}, "code"), ({"code": ...}, "code"),
        ({"external_subscription_id": "nobody"}, "external_subscription_id"),
        ({"external_subscription_id": ...}, "external_subscription_id"),
        ({"external_subscription_id": ..., "external_customer_id": "nobody"}, "external_customer_id"),
        ({"timestamp": "soon"}, "timestamp"), ({"timestamp": 1e300}, "timestamp"), ({"timestamp": "NaN"}, "timestamp"),
        ({"timestamp": 5}, "timestamp"), ({"timestamp": ...}, "properties.start_timestamp"),
        ({"properties": 5}, "properties"), ({"properties": ...}, "properties.call_type"),
        ({"properties": call_object(duration_ms=-1, organization=...)}, "properties.duration_ms"),
    ],
)  # fmt: skip
def test_an_error_names_the_field_of_lagos_event(priced, acme, vendor, fields, field):
    [item] = each(vendor, {"event": lago_event(**{"transaction_id": "bad"} | fields)}, JSON)
    assert (item["status"], item["field"]) == ("rejected", field), item


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"ce-id": ...}, "ce-id"), ({"ce-type": "dream"}, "ce-type"), ({"ce-type": ...}, "ce-type"),
        ({"ce-subject": "nobody"}, "ce-subject"), ({"ce-time": "soon"}, "ce-time"),
        ({"ce-specversion": "2"}, "specversion"),
    ],
)  # fmt: skip
def test_an_error_names_the_header(priced, acme, vendor, headers, field):
    sound = {"ce-specversion": "1.0", "ce-id": "call_1", "ce-type": "call.ended", "ce-subject": "acme"}
    sound["ce-time"] = "2026-10-14T09:30:00Z"
    named = {name: value for name, value in (sound | headers).items() if value is not ...}
    [item] = each(vendor, cloud_event()["data"], JSON, **named)
    assert (item["status"], item["field"]) == ("rejected", field), item


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"", ONE, {"position": 0}),
        (b" \n", BATCH, {"position": 0}),
        (b'{"id": 01}', ONE, {"position": 8}),
        (b'[{}, {"a" 1}]', BATCH, {"position": 10, "index": 1}),
        (b'[{}, {"a": "\\ud800 and more text"}]', BATCH, {"position": 18, "index": 1}),
        (b"[{}, {}", BATCH, {"position": 7, "index": 1}),
        (b"[{}] x", BATCH, {"position": 5}),
        (b'{"events": [{}, {"a": nope}]}', JSON, {"position": 23, "index": 1}),
        (b'{"event": {"a": nope}}', JSON, {"position": 17, "index": 0}),
        (b'{"events": {}}', JSON, {}),
        (b"[]", ONE, {}),
        (b"{}", BATCH, {}),
        (b"5", JSON, {}),
        (b"null", ONE, {}),
        (b"[" * 100_000, BATCH, {}),
        (b'{"data": ' + b"[" * 100_000, ONE, {}),
    ],
)
def test_f12_a_body_that_cannot_be_read_is_a_problem_with_the_place(vendor, body, content_type, said):
    document = problem(post(vendor, body, content_type), 400, "unreadable-body")
    assert {name: document[name] for name in ("position", "index") if name in document} == said
    assert document["detail"]


@pytest.mark.parametrize(
    "bad",
    [
        b"5", b"null", b"[]", b'"\xff"', b'{"id": "\\u0000"}', b"{}",
        raw(cloud_event("bad", data={"x": 1})).replace(b'"x": 1', b'"x": ' + b"[" * 100 + b"]" * 100),
        raw(cloud_event("bad", data={"x": 1})).replace(b'"x": 1', b'"x": 0.' + b"1" * 20_000),
        raw(cloud_event("bad", data={"x": "a" * 1_100_000})),
    ],
)  # fmt: skip
def test_f12_one_bad_event_among_good_ones_is_named_and_loses_nothing_else(priced, acme, vendor, bad):
    body = b"[" + raw(cloud_event("good_1")) + b"," + bad + b"," + raw(cloud_event("good_2")) + b"]"
    items = each(vendor, body)
    assert [item["status"] for item in items] == ["recorded", "rejected", "recorded"]
    assert items[1]["reason"]
    assert sorted(Call.objects.values_list("call_id", flat=True)) == ["good_1", "good_2"]


@pytest.mark.parametrize("body", [b"{}", b'{"events": [], "more": 1}', b'{"event": {}, "events": []}'])
def test_an_object_that_is_no_envelope_is_told_what_to_send(vendor, body):
    [item] = each(vendor, body, JSON)
    assert (item["index"], item["status"]) == (0, "rejected")
    assert "CloudEvent" in item["reason"]


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"event": {}}', b'{"events": {}}', b'{"events": [', b"nope"])
def test_where_lago_has_batches_only_those_are_taken(vendor, body):
    problem(post(vendor, body, JSON, "/api/v1/events/batch"), 400, "unreadable-body")


def test_too_many_events_are_refused_as_too_many_calls_are(vendor):
    document = problem(post(vendor, [{}] * 5001, BATCH), 422, "too-many-items")
    assert (document["items"], document["limit"]) == (5001, 5000)


def test_f09_a_body_over_10_mb_is_refused(vendor):
    problem(post(vendor, b"[]" + b" " * (10 * 1024 * 1024), BATCH), 413, "body-too-large")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/avro"])
def test_a_body_of_another_type_is_refused(vendor, content_type):
    problem(post(vendor, b"{}", content_type), 415, "unsupported-media-type")


def test_a_key_that_may_not_write_records_nothing(priced, acme, key):
    problem(post(key(acme, READ), cloud_event()), 403, "missing-scope")
    problem(post(Client(), cloud_event()), 401, "missing-api-key")
    assert not Call.objects.exists()


def test_the_answer_is_json_as_described(priced, acme, vendor, client):
    described = json.loads(client.get("/api/v1/schema").content)["paths"]["/api/v1/events"]["post"]
    assert set(described["requestBody"]["content"]) == {JSON, ONE, BATCH}
    assert {"200", "204", "400", "401", "403", "413", "415", "422"} <= set(described["responses"])
