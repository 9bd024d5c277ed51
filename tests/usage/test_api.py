"""The API as programs meet it: every bad input gets a clear problem, and nothing else is lost."""

import json
from datetime import timedelta

import pytest
from django.test import Client

from accounts import api_keys
from tests.charged import all_charges
from tests.usage.conftest import READ, WRITE, call_object, problem, raw
from usage.models import Call, CallDetail

pytestmark = pytest.mark.django_db
JSON = "application/json"


@pytest.fixture(autouse=True)
def _frozen(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)


def post(client, body, content_type=JSON):
    return client.post("/api/v1/calls", body if isinstance(body, bytes) else raw(body), content_type=content_type)


# ── Recording ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_calls_are_recorded_and_each_is_answered_for_itself(priced, acme, vendor):
    answer = post(
        vendor,
        [
            call_object("call_1"),
            call_object("call_1"),
            call_object("call_1", duration_ms=1),
            call_object("call_2", duration_ms=-1),
            call_object("call_3", organization="nobody"),
            call_object("call_4", products=["gpt_9"]),
        ],
    ).json()
    items = answer.pop("items")
    assert answer == {"recorded": 2, "duplicates": 1, "conflicts": 1, "rejected": 2}
    assert [item["index"] for item in items] == [0, 1, 2, 3, 4, 5]
    assert [item["status"] for item in items] == [
        "recorded", "duplicate", "conflict", "rejected", "rejected", "recorded",
    ]  # fmt: skip
    assert [item["field"] for item in items] == [None, None, "call_id", "duration_ms", "organization", None]
    assert [item["rated"] for item in items] == [True, None, None, None, None, False]
    assert all(item["reason"] for item in items[2:5])


def test_i06_the_same_request_twice_changes_nothing(priced, acme, vendor):
    body = {"calls": [call_object(f"call_{number}") for number in range(20)]}
    assert post(vendor, body).json()["recorded"] == 20
    before = all_charges()
    assert post(vendor, body).json()["duplicates"] == 20
    assert all_charges() == before


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", {"position": 0}),
        (b"  \n", {"position": 0}),
        (b"[1,{]", {"position": 4, "index": 1}),
        (b'[{}, {}, {"a" 1}, {}]', {"position": 14, "index": 2}),
        (b'{"calls": [{}, {"a": 01}]}', {"position": 22, "index": 1}),
        (b'[{"a": [1, {"b": "],{"}, 2]}, nope]', {"position": 31, "index": 1}),
        (b'[{}, {"a": "\\ud800 and more text"}]', {"position": 18, "index": 1}),
        (b'[{}, {"a": NaN}]', {"position": 11, "index": 1}),
        (b"[{}, {}", {"position": 7, "index": 1}),
        (b"[{}] x", {"position": 5}),
        (b"\xef\xbb\xbf[]", {"position": 0}),
        (b"5", {}),
        (b"null", {}),
        (b'"text"', {}),
        (b"{}", {}),
        (b'{"calls": {}}', {}),
        (b'{"calls": [], "more": 1}', {}),
        (b'{"calls": [{}], "calls": []}', {}),
        (b"[" * 100_000, {}),
        (b'[{"a": ' + b"[" * 100_000, {}),
    ],
)
def test_f12_a_body_that_cannot_be_read_is_a_problem_with_the_place(vendor, body, said):
    document = problem(post(vendor, body), 400, "unreadable-body")
    assert {name: document[name] for name in ("position", "index") if name in document} == said
    assert document["detail"]


@pytest.mark.parametrize(
    "bad",
    [
        b"5", b"null", b"[]", b'"\xff"', b'{"call_id": "\\u0000"}', b"{}",
        raw(call_object("bad", duration_ms=-1)),
        raw(call_object("bad", end_timestamp=1)),
        raw(call_object("bad", start_timestamp="2030-01-01T00:00:00Z")),
        raw(call_object("bad", duration_ms="97000")),
        raw(call_object("bad", products="platform")),
        raw(call_object("bad", organization="nobody")),
        raw(call_object("bad", organization="no\x00body")),
        raw(call_object("bad", organization="\ud83d\ude00")),
        raw(call_object("bad", metadata={"a": "\x00"})),
        raw(call_object("bad", duration_ms=2**64)),
        raw(call_object("bad", start_timestamp=10**400)),
        raw(call_object("bad", x=1)).replace(b'"x": 1', b'"x": ' + b"[" * 100 + b"]" * 100),
        raw(call_object("bad", x=1)).replace(b'"x": 1', b'"x": 0.' + b"1" * 20_000),
    ],
)  # fmt: skip
def test_f12_one_bad_item_among_good_ones_is_named_and_loses_nothing_else(priced, acme, vendor, bad):
    body = b"[" + raw(call_object("good_1")) + b"," + bad + b"," + raw(call_object("good_2")) + b"]"
    response = post(vendor, body)
    assert response.status_code == 200
    assert [item["status"] for item in response.json()["items"]] == ["recorded", "rejected", "recorded"]
    assert response.json()["items"][1]["reason"]
    assert sorted(Call.objects.values_list("call_id", flat=True)) == ["good_1", "good_2"]


def test_five_thousand_calls_are_taken_and_one_more_is_not(vendor):
    assert post(vendor, [{}] * 5000).json()["rejected"] == 5000
    document = problem(post(vendor, [{}] * 5001), 422, "too-many-items")
    assert (document["items"], document["limit"]) == (5001, 5000)
    assert post(vendor, []).json() == {"recorded": 0, "duplicates": 0, "conflicts": 0, "rejected": 0, "items": []}


def test_f09_a_body_over_10_mb_is_refused(vendor):
    limit = 10 * 1024 * 1024
    assert post(vendor, b"[]" + b" " * (limit - 2)).status_code == 200
    assert problem(post(vendor, b"[]" + b" " * (limit - 1)), 413, "body-too-large")["limit"] == limit


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_that_is_not_json_by_its_type_is_refused(vendor, content_type):
    problem(post(vendor, b"[]", content_type), 415, "unsupported-media-type")


def test_the_types_parameters_do_not_matter(vendor):
    assert post(vendor, b"[]", "application/json; charset=utf-8").status_code == 200


# ── Keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_an_unknown_an_expired_and_a_revoked_key_are_refused(priced, acme, key, now):
    expired = key(None, WRITE, expires_at=now)
    revoked = key(None, WRITE)
    api_keys.revoke(revoked.key, now=now)
    problem(post(Client(), [call_object()]), 401, "missing-api-key")
    for client in (expired, revoked, Client(headers={"authorization": "Bearer bp_vendor_guess"})):
        response = post(client, [call_object()])
        problem(response, 401, "invalid-api-key")
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert not Call.objects.exists()


def test_a_key_ends_with_the_next_request(priced, acme, vendor, now):
    assert post(vendor, [call_object()]).status_code == 200
    api_keys.revoke(vendor.key, now=now)
    problem(post(vendor, [call_object()]), 401, "invalid-api-key")


def test_an_organizations_key_records_nothing(priced, acme, key):
    assert problem(post(key(acme, READ), [call_object()]), 403, "missing-scope")["scope"] == "calls:write"
    assert not Call.objects.exists()


def test_a_vendor_key_that_only_writes_reads_nothing(acme, key):
    problem(key(None, WRITE).get("/api/v1/calls?organization=acme"), 403, "missing-scope")


# ── Reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/api/v1/calls", "/api/v1/usage", "/api/v1/calls/call_1"])
def test_i16_a_foreign_organization_is_answered_as_a_missing_one(priced, acme, other, record, key, vendor, path):
    record(call_object(), call_object(organization="other"))
    client = key(acme, READ)
    foreign, missing = client.get(path, {"organization": "other"}), client.get(path, {"organization": "nobody"})
    problem(foreign, 404, "not-found")
    assert foreign.content == missing.content
    assert client.get(path, {"organization": "acme"}).content == client.get(path).content
    problem(vendor.get(path, {"organization": "nobody"}), 404, "not-found")
    errors = problem(vendor.get(path), 400, "invalid")["errors"]
    assert [error["field"] for error in errors] == ["organization"]
    assert vendor.get(path, {"organization": "acme"}).content == client.get(path).content


def test_the_list_is_paged_by_addresses_that_keep_the_filters(priced, acme, other, record, key):
    record(*[call_object(f"call_{number}", agent_id=f"agent_{number % 2}") for number in range(9)])
    record(call_object("foreign", organization="other", agent_id="agent_1"))
    client, address, found = key(acme, READ), "/api/v1/calls?agent_id=agent_1&limit=3", []
    while address:
        page = client.get(address).json()
        found += [item["call_id"] for item in page["items"]]
        address = page["next"]
        assert address is None or address.startswith("http://testserver/api/v1/calls?")
    assert sorted(found) == ["call_1", "call_3", "call_5", "call_7"]


def test_calls_are_filtered_by_a_value_of_their_metadata_in_lists_and_files(priced, acme, record, key):
    record(*[call_object(f"c{n}", metadata={"team": "red" if n % 2 else "blue", "n": n}) for n in range(4)])
    client = key(acme, READ)
    for name, value, found in (("team", "red", ["c1", "c3"]), ("n", "2", ["c2"]), ("team", "green", [])):
        asked = {"metadata_key": name, "metadata_value": value, "order": "oldest"}
        assert sorted(item["call_id"] for item in client.get("/api/v1/calls", asked).json()["items"]) == found
    asked = {"metadata_key": "team", "metadata_value": "red"}
    assert b"".join(client.get("/api/v1/calls.jsonl", asked).streaming_content).count(b"\n") == 2
    for alone in asked:
        refused = problem(client.get("/api/v1/calls", {alone: "red"}), 400, "invalid")
        assert refused["errors"] == [
            {"field": next(iter({*asked} - {alone})), "reason": "Name both the key and the value."}
        ]


def test_days_of_a_filter_are_the_organizations_and_the_last_is_included(priced, make_organization, record, key):
    mumbai = make_organization("mumbai", time_zone="Asia/Kolkata")
    times = {"before": "2026-10-09T18:29:59Z", "first": "2026-10-09T18:30:00Z", "last": "2026-10-10T18:29:59Z"}
    times["after"] = "2026-10-10T18:30:00Z"
    fields = {"organization": "mumbai", "end_timestamp": ...}
    record(*[call_object(name, start_timestamp=at, **fields) for name, at in times.items()])
    client = key(mumbai, READ)

    def found(**query):
        return [item["call_id"] for item in client.get("/api/v1/calls", query).json()["items"]]

    assert found(**{"from": "2026-10-10", "to": "2026-10-10"}) == ["last", "first"]
    assert found(**{"from": times["first"], "to": times["last"]}) == ["first"]
    assert found(**{"from": "2026-10-11", "to": "2026-10-10"}) == []
    assert len(found(**{"from": "0001-01-01", "to": "9999-12-31"})) == 4
    assert len(found(**{"from": "0001-01-01T00:00:00Z"})) == 4


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("limit=", "limit"),
        ("limit=1&limit=2", "limit"), ("from=yesterday", "from"), ("from=2026-02-30", "from"),
        ("to=2026-10-15T09:30:00", "to"), ("cursor=x", "cursor"), ("cursor=1-2-3", "cursor"), ("colour=red", "colour"),
        ("status=", "status"), ("status=%00", "status"), ("agent_id=" + "x" * 129, "agent_id"),
    ],
)  # fmt: skip
def test_a_parameter_that_is_wrong_or_unknown_is_named(acme, key, query, field):
    errors = problem(key(acme, READ).get(f"/api/v1/calls?{query}"), 400, "invalid")["errors"]
    assert [error["field"] for error in errors] == [field]


def test_a_call_is_shown_with_its_price_line_by_line(priced, acme, record, settle, key):
    record(call_object(from_number="+15550001111", metadata={"a": 1}))
    client = key(acme, READ)
    call = client.get("/api/v1/calls/call_1").json()
    assert (call["amount_micros"], call["currency"], call["sequence"], call["billed_month"]) == (
        130_950, "USD", None, None,
    )  # fmt: skip
    assert sum(line["micros"] for line in call["lines"]) == call["amount_micros"]
    assert call["lines"][1] == {
        "component": "voice",
        "product": "elevenlabs_tts",
        "label": "ElevenLabs",
        "unit": "minute",
        "rate_micros": 70_000,
        "quantity": 97_000,
        "micros": 113_167,
    }
    assert call["price_version"] == {"book": "parley-usd", "number": 1}
    assert (call["from_number"], call["metadata"]) == ("+15550001111", {"a": 1})
    settle(acme)
    call = client.get("/api/v1/calls/call_1").json()
    assert (call["sequence"], call["billed_month"]) == (1, "2026-10")


def test_a_call_without_a_price_says_what_is_missing(priced, acme, record, key):
    record(call_object(products=["platform", "gpt_9"]))
    call = key(acme, READ).get("/api/v1/calls/call_1").json()
    assert (call["unpriced"], call["lines"], call["amount_micros"], call["price_version"]) == (
        ["gpt_9"],
        [],
        None,
        None,
    )


def test_a_call_whose_detail_was_erased_keeps_its_price(priced, acme, record, key):
    record(call_object(from_number="+15550001111"))
    CallDetail.objects.all().delete()
    call = key(acme, READ).get("/api/v1/calls/call_1").json()
    assert (call["from_number"], call["metadata"], call["amount_micros"]) == (None, None, 130_950)


@pytest.mark.parametrize("call_id", ["nothing", "%00", "x" * 500, "%ff", "'", "a%2Fb"])
def test_a_call_that_is_not_there_is_missing(acme, key, call_id):
    problem(key(acme, READ).get(f"/api/v1/calls/{call_id}"), 404, "not-found")


def test_usage_is_summed_by_day_and_component(priced, acme, record, settle, key, now):
    second = (now - timedelta(days=1)).isoformat()
    record(
        call_object("call_1", start_timestamp="2026-10-02T00:00:00Z", end_timestamp=...),
        call_object("call_2", start_timestamp=second, end_timestamp=...),
        call_object("call_3", start_timestamp=second, end_timestamp=..., add_ons=["branded_call"]),
        call_object("september", start_timestamp="2026-09-30T23:59:59Z", end_timestamp=...),
    )
    settle(acme)
    record(call_object("waiting"))
    client = key(acme, READ)
    report = client.get("/api/v1/usage").json()
    assert (report["from"], report["to"], report["currency"]) == ("2026-10-01", "2026-10-15", "USD")
    assert [(day["date"], day["micros"]) for day in report["days"]] == [
        ("2026-10-02", 130_950),
        ("2026-10-14", 2 * 130_950 + 100_000),
    ]
    assert report["days"][1]["components"]["per_call"] == 100_000
    totals = report["totals"]
    assert (totals["calls"], totals["duration_ms"], totals["micros"]) == (3, 3 * 97_000, 3 * 130_950 + 100_000)
    assert sum(totals["components"].values()) == totals["micros"]
    assert client.get("/api/v1/usage?from=2026-09-30&to=2026-09-30").json()["totals"]["calls"] == 1
    assert client.get("/api/v1/usage?from=2026-10-02&to=2026-10-01").json()["totals"]["calls"] == 0


def test_answers_are_kept_by_no_cache(acme, key):
    assert key(acme, READ).get("/api/v1/calls").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_are_problems(acme, key, method):
    response = getattr(key(acme, READ), method)("/api/v1/calls")
    problem(response, 405, "method-not-allowed")
    assert "POST" in response.headers["Allow"]


# ── Description ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_documentation_has_nothing_inline():
    page = Client().get("/api/v1/docs")
    assert page.status_code == 200
    text = page.content.decode()
    assert "<style" not in text
    assert text.count("<script") == text.count('<script src="/')
    assert "https://" not in text
    script = Client().get("/api/v1/docs?script=")
    assert script.headers["Content-Type"] == "application/javascript"
    assert "/api/v1/schema" in script.content.decode()


def test_the_description_is_open_and_says_what_happens_to_items():
    described = Client().get("/api/v1/schema")
    assert described.status_code == 200
    operation = json.loads(described.content)["paths"]["/api/v1/calls"]["post"]
    assert "`items`" in operation["description"]
    assert {"200", "400", "401", "403", "413", "415", "422"} <= set(operation["responses"])


# ── Idempotency keys ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/api/v1/calls", "/api/v1/events"])
def test_a_repeated_key_gets_the_first_answer_and_not_that_all_was_known(priced, acme, vendor, path):
    event = {"specversion": "1.0", "id": "x", "type": "call.ended", "data": call_object()}
    body = raw([call_object() if path.endswith("calls") else event])
    headers = {"Idempotency-Key": "7", "Prefer": "return=representation"}
    first, again = (vendor.post(path, body, content_type=JSON, headers=headers) for _ in range(2))
    assert (first.json()["recorded"], again.content) == (1, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Content-Type"] == JSON
    other = vendor.post(path, raw([call_object("call_2")]), content_type=JSON, headers=headers)
    problem(other, 422, "idempotency-key-reused")
    assert Call.objects.count() == 1


def test_a_key_of_a_refused_request_is_free_again(priced, acme, vendor):
    headers = {"Idempotency-Key": "7"}
    problem(vendor.post("/api/v1/calls", b"[", content_type=JSON, headers=headers), 400, "unreadable-body")
    answer = vendor.post("/api/v1/calls", raw([call_object()]), content_type=JSON, headers=headers)
    assert answer.json()["recorded"] == 1
