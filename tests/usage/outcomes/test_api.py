"""Conversations by program: events in every envelope, and the answer why one was billed."""

import pytest

from tests.usage.conftest import READ, problem
from tests.usage.outcomes.conftest import became, event, raw
from usage.models import Conversation, OutcomeCharge

pytestmark = pytest.mark.usefixtures("ruled", "acme")
PATH = "/api/v1/conversations/events"


@pytest.fixture(autouse=True)
def _frozen(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)


def post(client, body, path=PATH, content_type="application/json", **headers):
    return client.post(path, body if isinstance(body, bytes) else raw(body), content_type=content_type, headers=headers)


def test_each_event_of_a_batch_is_answered_for_itself(vendor):
    told = [event("ai_answered"), event("sang"), event("escalated", 1, conversation="c_2"), event("ai_answered")]
    answer = post(vendor, told).json()
    counts = {name: answer[name] for name in ("recorded", "held", "duplicates", "conflicts", "rejected")}
    assert counts == {"recorded": 1, "held": 1, "duplicates": 1, "conflicts": 0, "rejected": 1}
    assert [item["status"] for item in answer["items"]] == ["recorded", "rejected", "held", "duplicate"]
    assert answer["items"][1]["field"] == "type"
    assert post(vendor, {"events": told[:1]}).json()["duplicates"] == 1


@pytest.mark.parametrize("body", [b"", b"[{]", b'{"calls": []}', b"null"])
def test_a_body_that_cannot_be_read_is_refused_whole(vendor, body):
    problem(post(vendor, body), 400, "unreadable-body")
    assert not Conversation.objects.exists()


def test_too_many_events_are_refused(vendor):
    problem(post(vendor, [{}] * 5001), 422, "too-many-items")


def test_cloud_events_of_a_conversation_are_the_same_events(vendor):
    told = event("ai_answered")
    cloud = {
        "specversion": "1.0",
        "id": told["event_id"],
        "type": "conversation.ai_answered",
        "source": "chat",
        "subject": "acme",
        "time": told["occurred_at"],
        "data": {"conversation_id": "c_1"},
    }
    structured = "application/cloudevents+json"
    assert post(vendor, cloud, "/api/v1/events", structured).status_code == 204
    binary = {"ce-specversion": "1.0", "ce-id": "e_2", "ce-type": "conversation.customer_replied", "ce-source": "chat"}
    binary |= {"ce-subject": "acme", "ce-time": event("closed", 1)["occurred_at"]}
    said = {"conversation_id": "c_1", "reply_kind": "affirmative"}
    assert post(vendor, said, "/api/v1/events", **binary).status_code == 204
    assert OutcomeCharge.objects.get().outcome == "resolution"
    assert post(vendor, [told]).json()["duplicates"] == 1


def test_a_refused_cloud_event_names_its_field(vendor):
    cloud = {
        "specversion": "1.0",
        "id": "e",
        "type": "conversation.customer_replied",
        "source": "chat",
        "subject": "acme",
        "time": "2026-10-14T09:30:00Z",
        "data": {"conversation_id": "c_1", "reply_kind": "shrug"},
    }
    refused = problem(post(vendor, cloud, "/api/v1/events", "application/cloudevents+json"), 422, "events-refused")[
        "refused"
    ]
    assert [(each["field"], each["status"]) for each in refused] == [("data.reply_kind", "rejected")]


def test_an_early_cloud_event_is_recorded_and_says_so_when_asked(vendor):
    cloud = {
        "specversion": "1.0",
        "id": "e",
        "type": "conversation.escalated",
        "source": "chat",
        "subject": "acme",
        "time": "2026-10-14T09:30:00Z",
        "data": {"conversation_id": "c_1"},
    }
    prefer = {"Prefer": "return=representation"}
    item = post(vendor, [cloud], "/api/v1/events", "application/cloudevents-batch+json", **prefer).json()["items"][0]
    assert item["status"] == "recorded"
    assert "No answer" in item["reason"]


def test_why_was_this_billed(vendor, key, acme):
    post(vendor, [event("ai_answered"), event("customer_replied", 1, reply_kind="affirmative", event_id="yes")])
    answer = key(acme, READ).get("/api/v1/conversations/c_1").json()
    assert answer["outcome"] == "resolution"
    assert answer["verdict"] == "A resolution, because the customer confirmed that it helped."
    assert [(each["event_id"], each["decides"]) for each in answer["timeline"]][1] == ("yes", True)
    assert answer["rules_version"] == 1
    assert answer["window_seconds"] == 86_400
    assert any("24 hours" in text for text in answer["rules"])
    assert answer["charges"][0]["price_micros"] == 990_000
    [change] = answer["would_change"]
    assert change.startswith("It is not charged, or is given back, if at any time the customer says: needs more help")


def test_why_was_this_not_billed(vendor, key, acme):
    post(vendor, [event("ai_answered"), event("customer_replied", 1, reply_kind="needs_help", event_id="no")])
    answer = key(acme, READ).get("/api/v1/conversations/c_1").json()
    assert (answer["outcome"], answer["charges"]) == (None, [])
    assert answer["verdict"] == "The customer asked for more help, so nothing is charged."
    assert [each["reverses"] for each in answer["timeline"]] == [False, True]


def test_another_organizations_conversation_does_not_exist(vendor, key, other):
    post(vendor, [event("ai_answered")])
    problem(key(other, READ).get("/api/v1/conversations/c_1"), 404, "not-found")
    problem(key(other, READ).get("/api/v1/conversations/c_1?organization=acme"), 404, "not-found")
    assert became().reference == "c_1"
