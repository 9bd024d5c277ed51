"""Retell's webhooks, signed by Retell's own SDK: a call is recorded once, when it is complete, and none is lost."""

import json
import time
from datetime import timedelta

import pytest
from django.db import connection
from retell.lib.webhook_auth import symmetric

from tests.usage.conftest import call_object, problem, raw
from usage import ingestion, retell, tasks
from usage.models import Call, HeldCall

pytestmark = pytest.mark.django_db
KEY, ACMES, OTHERS = "key_vendor", "key_of_acme", "key_of_other"
HOUR = timedelta(hours=1)
ANALYSIS = {"product": "gpt_4o_mini"}


@pytest.fixture(autouse=True)
def _frozen(monkeypatch, now, settings):
    settings.RETELL_WEBHOOK_KEYS = ["", "key_before", KEY, f"acme={ACMES}", f"other={OTHERS}"]
    monkeypatch.setattr("accounts.clock.now", lambda: now)


def call(call_id="call_1", *, products=("elevenlabs_tts",), **fields):
    costs = {"product_costs": [{"product": product} for product in products]}
    return call_object(call_id, **{"organization": ..., "products": ..., "call_cost": costs, **fields})


def ended(call_id="call_1", **fields):
    return {"event": "call_ended", "call": call(call_id, **fields)}


def analyzed(call_id="call_1", **fields):
    more = {"call_analysis": {"call_successful": True}, "products": ("elevenlabs_tts", ANALYSIS["product"])}
    return {"event": "call_analyzed", "call": call(call_id, **more, **fields)}


def post(client, event, key=KEY, query="?organization=acme", signature=None, at=None, **headers):
    body = event if isinstance(event, bytes) else json.dumps(event, separators=(",", ":")).encode()
    if signature is None:
        signature = symmetric["sign"](body.decode("latin-1"), key, at)
    return client.post(
        f"/api/v1/retell/webhook{query}",
        body,
        content_type="application/json",
        headers={"x-retell-signature": signature, **headers},
    )


def recorded():
    return {call.call_id: call.mix.products for call in Call.objects.select_related("mix")}


# ── When a call is complete ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_is_recorded_once_with_what_the_analysis_cost(priced, acme, client, now):
    assert post(client, {"event": "call_started", "call": {}}).status_code == 204
    assert post(client, ended()).status_code == 204
    assert retell.record_due(now=now + timedelta(minutes=59)) == 0
    assert post(client, analyzed()).status_code == 204
    assert retell.record_due(now=now) == 1
    assert recorded() == {"call_1": ["elevenlabs_tts", "gpt_4o_mini"]}
    assert not HeldCall.objects.exists()


def test_an_ended_call_without_an_analysis_is_recorded_after_the_grace_time(priced, acme, client, now):
    post(client, ended())
    assert retell.record_due(now=now + HOUR) == 1
    assert recorded() == {"call_1": ["elevenlabs_tts"]}


def test_f03_any_order_and_any_repetition_come_to_the_same(priced, acme, client, now):
    for event in (analyzed(), ended(), analyzed(), ended()):
        post(client, event)
    retell.record_due(now=now)
    for event in (ended(), analyzed(), ended()):
        post(client, event)
    for later in (now, now + HOUR, now + 2 * HOUR):
        retell.record_due(now=later)
    assert recorded() == {"call_1": ["elevenlabs_tts", "gpt_4o_mini"]}
    assert not HeldCall.objects.exists()


def test_f49_an_analysis_after_the_grace_time_changes_nothing_and_is_shown_to_staff(priced, acme, client, now):
    post(client, ended())
    retell.record_due(now=now + HOUR)
    post(client, analyzed())
    retell.record_due(now=now + HOUR)
    held = HeldCall.objects.get()
    assert (held.state, held.is_analyzed, held.field) == ("refused", True, "call_id")
    assert recorded() == {"call_1": ["elevenlabs_tts"]}


def test_what_came_by_webhook_is_a_duplicate_over_the_api(priced, acme, client, vendor, now):
    post(client, analyzed())
    retell.record_due(now=now)
    item = analyzed()["call"] | {"organization": "acme"}
    answer = vendor.post("/api/v1/calls", raw([item]), content_type="application/json").json()
    assert answer["duplicates"] == 1


@pytest.mark.parametrize("event", ["transcript_updated", "transfer_started", "chat_ended", "call_started", "new_one"])
def test_other_events_are_taken_and_leave_nothing(acme, client, event):
    assert post(client, {"event": event, "call": call()}).status_code == 204
    assert not HeldCall.objects.exists()


# ── Whose call it is ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_metadata_name_the_organization_where_nothing_else_does(priced, acme, other, client, now):
    post(client, analyzed("by_metadata", metadata={"organization": "other"}), query="")
    post(client, analyzed("by_address", metadata={"organization": "other"}))
    post(client, analyzed("by_key"), key=ACMES, query="")
    retell.record_due(now=now)
    owners = dict(Call.objects.values_list("call_id", "organization__reference"))
    assert owners == {"by_metadata": "other", "by_address": "acme", "by_key": "acme"}


def test_i16_an_organizations_key_speaks_for_it_alone(priced, acme, other, client, now):
    forged = analyzed(metadata={"organization": "other"})
    forged["call"]["organization"] = "other"
    post(client, forged, key=ACMES, query="?organization=other")
    retell.record_due(now=now)
    assert list(Call.objects.values_list("organization__reference", flat=True)) == ["acme"]


def test_i16_the_same_id_may_come_from_two_organizations(priced, acme, other, client, now):
    post(client, analyzed(), key=ACMES, query="")
    post(client, analyzed(), key=OTHERS, query="")
    assert retell.record_due(now=now) == 2
    assert Call.objects.count() == 2


@pytest.mark.parametrize(
    ("query", "metadata"),
    [("?organization=nobody", {}), ("", {}), ("", None), ("", {"organization": 5})],
)
def test_a_call_of_nobody_known_stays_until_somebody_says_whose_it_is(
    priced, make_organization, client, now, query, metadata
):
    assert post(client, analyzed(metadata=metadata), query=query).status_code == 204
    retell.record_due(now=now)
    held = HeldCall.objects.get()
    assert (held.state, held.field) == ("refused", "organization")
    make_organization("nobody")
    HeldCall.objects.update(organization="nobody")
    assert retell.try_again(HeldCall.objects.all(), now=now) == 1
    retell.record_due(now=now)
    assert list(recorded()) == ["call_1"]


# ── Nothing is lost ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_that_cannot_be_recorded_keeps_no_other_waiting(priced, acme, client, now):
    post(client, analyzed("bad", duration_ms=-1))
    post(client, analyzed("good"))
    retell.record_due(now=now)
    assert list(recorded()) == ["good"]
    assert HeldCall.objects.get().field == "duration_ms"


def test_f24_a_call_on_which_the_recorder_fails_is_given_up_after_some_attempts(priced, acme, client, now, monkeypatch):
    post(client, analyzed("poison"))
    post(client, analyzed("good"))
    record = ingestion.record

    def fail_on_poison(items, **options):
        if any(b"poison" in item for item in items):
            raise RuntimeError("poison")
        return record(items, **options)

    monkeypatch.setattr(ingestion, "record", fail_on_poison)
    for attempt in range(retell.ATTEMPTS):
        retell.record_due(now=now + attempt * timedelta(minutes=10))
    assert list(recorded()) == ["good"]
    assert HeldCall.objects.get().state == "refused"


def test_a_call_too_large_to_be_kept_is_recorded_without_its_transcript(priced, acme, client, now):
    post(client, analyzed(transcript="a" * 1_200_000, summary="short"))
    retell.record_due(now=now)
    assert list(recorded()) == ["call_1"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT extra ? 'transcript', extra ? 'summary' FROM usage_calldetail")
        assert cursor.fetchone() == (False, True)


def test_the_task_records_all_that_is_due(priced, acme, client, monkeypatch):
    monkeypatch.setattr(retell, "BATCH", 2)
    for number in range(5):
        post(client, analyzed(f"call_{number}"))
    tasks.record_held_calls()
    assert len(recorded()) == 5


# ── Forged, stale, malformed ──────────────────────────────────────────────────────────────────────────────────────────


def milliseconds(seconds=0):
    return int((time.time() + seconds) * 1000)


@pytest.mark.parametrize(
    "options",
    [
        {"key": "wrong"},
        {"signature": ""},
        {"signature": "v=1,d=00"},
        {"signature": "nonsense"},
        {"key": f"acme={ACMES}"},
        {"at": milliseconds(-301)},
        {"at": milliseconds(3600)},
        {"at": -5},
    ],
)
def test_f05_f06_what_is_forged_or_stale_is_a_401_and_leaves_no_row(acme, client, options):
    problem(post(client, analyzed(), **options), 401, "wrong-signature")
    assert not HeldCall.objects.exists()


def test_f05_an_empty_key_signs_nothing(acme, client, settings):
    settings.RETELL_WEBHOOK_KEYS = [""]
    problem(post(client, analyzed(), key="x"), 401, "wrong-signature")
    settings.RETELL_WEBHOOK_KEYS = []
    problem(post(client, analyzed()), 401, "wrong-signature")


def test_f05_a_signature_is_of_one_body(acme, client):
    signature = symmetric["sign"](json.dumps(ended(), separators=(",", ":")), KEY)
    problem(post(client, analyzed(), signature=signature), 401, "wrong-signature")


def test_f07_old_and_new_key_are_accepted_while_one_is_rotated(acme, client):
    assert [post(client, ended(str(n)), key=key).status_code for n, key in enumerate((KEY, "key_before"))] == [204, 204]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"nope", b"[]", b"null", b"{}", b'{"event": 5}', b'{"event": "call_ended"}',
        b'{"event": "call_ended", "call": 5}', b'{"event": "call_ended", "call": {}}',
        b'{"event": "call_ended", "call": {"call_id": ""}}', b'{"event": "call_ended", "call": {"call_id": "\\u0000"}}',
        raw({"event": "call_ended", "call": {"call_id": "x" * 129}}),
        b'{"event": "call_ended", "call": ' + b"[" * 99_999,
    ],
)  # fmt: skip
def test_f12_what_is_signed_and_no_event_is_a_400(acme, client, body):
    document = problem(post(client, body), 400, "unreadable-body")
    assert document["detail"]
    assert not HeldCall.objects.exists()


def test_f09_a_huge_body_is_refused(acme, client):
    problem(post(client, b"0" * (10 * 1024 * 1024 + 1)), 413, "body-too-large")
