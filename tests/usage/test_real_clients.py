"""Clients of other services, as they are published, post here with nothing changed but the address and the key."""

import urllib.request
from datetime import UTC, datetime

import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent
from corehttp.exceptions import HttpResponseError
from lago_python_client.client import Client as Lago
from lago_python_client.exceptions import LagoApiError
from lago_python_client.models import BatchEvent, Event
from openmeter import Client as OpenMeter
from openmeter.models import Event as OpenMeterEvent

from accounts import api_keys
from billing_portal.ledger import accounts
from tests.usage.conftest import WRITE
from usage.models import Call

pytestmark = pytest.mark.django_db(transaction=True)
CALL = {"call_type": "web_call", "duration_ms": 97_000, "products": ["platform", "elevenlabs_tts"]}


@pytest.fixture
def secret(priced, acme, now, monkeypatch):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    accounts.open(organization=acme, now=now)
    return api_keys.issue(organization=None, name="vendor", scopes=[WRITE], now=now)[1]


def recorded():
    return sorted(Call.objects.values_list("call_id", flat=True))


def test_openmeters_client_sends_events(secret, live_server):
    client = OpenMeter(endpoint=live_server.url, token=secret)

    def event(event_id, **fields):
        named = {"id": event_id, "source": "voice", "specversion": "1.0", "type": "call.ended", "subject": "acme"}
        return OpenMeterEvent({**named, "time": "2026-10-14T09:30:00Z", "data": CALL, **fields})

    assert client.events.ingest_event(event("one")) is None
    assert client.events.ingest_events([event("one"), event("two")]) is None
    assert client.events.ingest_events_json([event("three")]) is None
    assert recorded() == ["one", "three", "two"]
    with pytest.raises(HttpResponseError) as raised:
        client.events.ingest_events([event("four"), event("five", type="dream")])
    assert raised.value.response.status_code == 422
    assert recorded() == ["four", "one", "three", "two"]


def test_lagos_client_sends_events(secret, live_server):
    client = Lago(api_key=secret, api_url=live_server.url)

    def event(transaction_id, **fields):
        named = {"transaction_id": transaction_id, "external_subscription_id": "acme", "code": "call_ended"}
        return Event(**{**named, "timestamp": 1_760_000_097, "properties": CALL, **fields})

    answer = client.events.create(event("one"))
    assert (answer.transaction_id, answer.code, answer.properties) == ("one", "call_ended", CALL)
    client.events.batch_create(BatchEvent(events=[event("one"), event("two")]))
    assert recorded() == ["one", "two"]
    with pytest.raises(LagoApiError) as raised:
        client.events.create(event("three", code="dream"))
    assert raised.value.response["refused"][0]["field"] == "code"


@pytest.mark.parametrize("mode", [to_binary, to_structured])
def test_the_cloudevents_sdk_sends_events(secret, live_server, mode):
    attributes = {"type": "call.ended", "source": "voice", "subject": "acme", "id": "one"}
    attributes["time"] = datetime(2026, 10, 14, 9, 30, tzinfo=UTC).isoformat()
    headers, body = mode(CloudEvent(attributes, CALL))
    headers |= {"Authorization": f"Bearer {secret}", "Content-Type": headers.get("content-type", "application/json")}
    request = urllib.request.Request(f"{live_server.url}/api/v1/events", body, headers)
    with urllib.request.urlopen(request) as response:
        assert response.status == 204
    assert recorded() == ["one"]
