"""What the API must refuse or keep, the same at every address that takes calls: with the place and the reason."""

import json

import pytest

from tests.usage.conftest import call_object, problem
from usage import imports
from usage.models import Call, CallDetail, ImportRefusal

pytestmark = pytest.mark.django_db
JSON, BATCH = "application/json", "application/cloudevents-batch+json"
LIMIT = 10 * 1024 * 1024


def as_calls(texts):
    return "/api/v1/calls", JSON, b"[%b]" % b",".join(texts), ""


def as_events(texts):
    event = b'{"specversion":"1.0","id":"evt","type":"call.ended","data":%b}'
    return "/api/v1/events", BATCH, b"[%b]" % b",".join(event % text for text in texts), "data."


def as_lago(texts):
    event = b'{"transaction_id":"tx","code":"call_ended","properties":%b}'
    return "/api/v1/events/batch", JSON, b'{"events":[%b]}' % b",".join(event % text for text in texts), "properties."


WAYS = pytest.mark.parametrize("way", [as_calls, as_events, as_lago])


@pytest.fixture(autouse=True)
def _frozen(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)


@pytest.fixture
def send(vendor):
    """Return what posts call objects, as texts, in one of the ways, and returns the items' answers."""

    def send(way, *texts):
        path, content_type, body, prefix = way(list(texts))
        headers = {"Prefer": "return=representation"}
        response = vendor.post(path, body, content_type=content_type, headers=headers)
        assert response.status_code == 200, response.content
        items = response.json()["items"]
        for item in items:
            whole = item["field"] in (None, prefix.removesuffix("."))
            item["field"] = "" if whole else item["field"].removeprefix(prefix)
        return items

    return send


def text(call_id="call_1", **fields):
    return json.dumps(call_object(call_id, **fields)).encode()


WRONG = pytest.mark.parametrize(
    ("bad", "field", "said"),
    [
        (text("bad", start_timestamp="2025-10-09T08:53:20"), "start_timestamp", "offset"),
        (text("bad", start_timestamp="2025-10-09T08:53:20+25:00"), "start_timestamp", "no instant"),
        (text("bad", start_timestamp="2025-10-09T08:53:20+01:75"), "start_timestamp", "no instant"),
        (text("bad", start_timestamp="2025-10-09T08:60:20Z"), "start_timestamp", "no instant"),
        (text("bad", start_timestamp="2025-10-09T08:53:61Z"), "start_timestamp", "no instant"),
        (text("bad", start_timestamp="2030-01-01T00:00:00Z"), "start_timestamp", "future"),
        (text("bad", start_timestamp=2**64), "start_timestamp", ""),
        (text("bad", end_timestamp=1_759_999_999_999), "end_timestamp", "before it starts"),
        (text("bad", duration_ms=-1), "duration_ms", ""),
        (text("bad", duration_ms=2**63), "duration_ms", ""),
        (text("bad", duration_ms=2**80), "duration_ms", ""),
        (text("bad", duration_ms=97.5), "duration_ms", "int"),
        (text("bad", llm_token_usage={"values": [2**63]}), "llm_token_usage.values", ""),
        (text("bad", agent_name="a\0b"), "agent_name", "NUL"),
        (text("bad", metadata={"a": {"b": ["\0"]}}), "metadata.a.b[0]", "NUL"),
        (text("bad", colour="\0"), "colour", "NUL"),
        (text("bad", colour=1).replace(b'"colour": 1', b'"colour": ' + b"[" * 70 + b"]" * 70), "colour", "deeper"),
        (text("bad", metadata={"a": 1}).replace(b"1}", b'{"b":' * 70 + b"1" + b"}" * 71), "metadata", "deeper"),
        (text("bad", organization="nobody"), "organization", "no organization"),
        (text("bad", products=[f"p{number}" for number in range(65)]), "products", "64"),
        (text("bad", colour="x" * 1_100_000), "", "larger"),
    ],
)  # fmt: skip


@WAYS
@WRONG
def test_what_cannot_be_right_is_named_by_place_and_reason_and_loses_nothing_else(
    priced, acme, send, way, bad, field, said
):
    good, refused, also_good = send(way, text("good"), bad, text("also_good"))
    assert (good["status"], refused["status"], also_good["status"]) == ("recorded", "rejected", "recorded")
    assert (refused["index"], refused["field"]) == (1, field)
    assert said in refused["reason"]
    assert refused["reason"]


@WRONG
def test_what_cannot_be_right_in_a_file_is_kept_with_its_line_and_the_reason(
    priced, acme, settings, tmp_path, now, bad, field, said
):
    settings.IMPORTS_DIR = tmp_path
    lines = b"\n".join((text("good"), bad, text("also_good")))
    job = imports.upload(iter([lines]), name="calls.jsonl", now=now)
    imports.run(job.pk, clock=lambda: now)
    job.refresh_from_db()
    assert (job.recorded, job.rejected) == (2, 1)
    refused = ImportRefusal.objects.get()
    assert (refused.position, refused.line, refused.field) == (1, 2, field)
    assert said in refused.reason
    assert refused.reason


@WAYS
@pytest.mark.parametrize(
    ("spelling", "instant"),
    [
        ("2025-10-09T08:53:20Z", "2025-10-09T08:53:20+00:00"),
        ("2025-10-09t08:53:20.5z", "2025-10-09T08:53:20.500000+00:00"),
        ("2025-10-09 14:38:20+05:45", "2025-10-09T08:53:20+00:00"),
        ("2025-10-09T22:53:20+1400", "2025-10-09T08:53:20+00:00"),
        ("2025-10-08T20:53:20-12:00", "2025-10-09T08:53:20+00:00"),
        ("2025-10-09T08:52:60Z", "2025-10-09T08:53:00+00:00"),
        ("2025-10-09T08:52:60.25-00:00", "2025-10-09T08:53:00.250000+00:00"),
    ],
)
def test_f46_odd_offsets_and_the_second_60_are_the_instants_they_name(priced, acme, send, way, spelling, instant):
    [item] = send(way, text(start_timestamp=spelling, end_timestamp=...))
    assert item["status"] == "recorded"
    assert Call.objects.get().started_at.isoformat() == instant


@WAYS
def test_unknown_fields_are_kept_as_they_came(priced, acme, send, way):
    raw = text(colour={"deep": [1, None, 1.5]}, metadata={"x": {"y": "z"}})
    [item] = send(way, raw.replace(b'"colour": {', b'"colour": {"big": 123456789012345678901234567890, '))
    assert item["status"] == "recorded"
    detail = CallDetail.objects.get()
    assert detail.extra["colour"] == {"big": 123456789012345678901234567890, "deep": [1, None, 1.5]}
    assert detail.metadata == {"x": {"y": "z"}}


@WAYS
def test_an_empty_and_a_huge_body_are_refused(vendor, way):
    path, content_type, body, _ = way([])
    problem(vendor.post(path, b"", content_type=content_type), 400, "unreadable-body")
    assert vendor.post(path, body + b" " * (LIMIT - len(body)), content_type=content_type).status_code in {200, 204}
    too_large = vendor.post(path, body + b" " * (LIMIT + 1 - len(body)), content_type=content_type)
    assert problem(too_large, 413, "body-too-large")["limit"] == LIMIT


@WAYS
def test_f12_broken_json_is_placed_by_byte_and_item(vendor, way):
    path, content_type, body, _ = way([b"{}", b'{"a" 1}', b"{}"])
    document = problem(vendor.post(path, body, content_type=content_type), 400, "unreadable-body")
    assert (document["index"], document["position"]) == (1, body.index(b" 1}") + 1)
    assert f"byte {document['position']}" in document["detail"]
