"""Back-pressure: a flood is told when to come again, nothing of it is recorded, and nothing falls over."""

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.db import connection, connections
from django.test import Client

from accounts import api_keys, rate_limits, web_connections
from accounts.models import ApiKey
from billing_portal.ledger import accounts
from tests.usage.conftest import READ, WRITE, call_object, problem, raw
from usage.api import pressure
from usage.models import Call

EVENT = {"specversion": "1.0", "id": "evt", "type": "call.ended", "data": call_object()}
BODIES = [("/api/v1/calls", [call_object()]), ("/api/v1/events", EVENT), ("/api/v1/events/batch", {"events": []})]


@pytest.fixture(autouse=True)
def _frozen(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    monkeypatch.setattr(rate_limits._Counter, "away_until", 0.0)
    monkeypatch.setattr(pressure._Backlog, "measured_at", float("-inf"))
    monkeypatch.setattr(pressure._Backlog, "is_too_long", False)


def post(client, path="/api/v1/calls", body=None):
    return client.post(path, raw([call_object()] if body is None else body), content_type="application/json")


def refused(response, status=429, slug="too-many-requests"):
    document = problem(response, status, slug)
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    return document


# ── Each key ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.django_db
def test_a_key_that_asks_too_often_is_told_when_to_come_again(priced, acme, key, settings):
    settings.API_KEY_REQUESTS_PER_SECOND, settings.API_KEY_BURST = 1, 3
    vendor, reader = key(None, WRITE), key(acme, READ)
    assert [post(vendor).status_code for _ in range(3)] == [200, 200, 200]
    assert "1 requests a second" in refused(post(vendor))["detail"]
    assert reader.get("/api/v1/calls").status_code == 200, "another key has a bucket of its own"
    assert Call.objects.count() == 1


@pytest.mark.django_db
def test_a_bucket_fills_again_up_to_its_size(key, settings):
    settings.API_KEY_REQUESTS_PER_SECOND, settings.API_KEY_BURST = 50, 5
    issued = key(None, WRITE).key
    takes = [rate_limits.take(issued) for _ in range(8)]
    assert takes[:5] == [0] * 5
    assert max(takes) <= 20, "the next token is there in a fiftieth of a second"
    time.sleep(0.5)
    assert [bool(rate_limits.take(issued)) for _ in range(5)] == [False] * 5


@pytest.mark.django_db
def test_at_once_no_more_than_the_bucket_holds_pass(key, settings):
    settings.API_KEY_REQUESTS_PER_SECOND, settings.API_KEY_BURST = 1, 20
    issued = key(None, WRITE).key
    with ThreadPoolExecutor(8) as pool:
        takes = list(pool.map(lambda _: rate_limits.take(issued), range(100)))
    assert 20 <= takes.count(0) <= 22


@pytest.mark.django_db
def test_f20_without_valkey_every_request_passes_and_it_is_logged_once(priced, acme, vendor, settings, caplog):
    settings.API_KEY_REQUESTS_PER_SECOND, settings.API_KEY_BURST = 1, 1
    with a_server_that_hangs() as port:
        settings.BROKER_URL = f"redis://127.0.0.1:{port}/0"
        assert [post(vendor).status_code for _ in range(4)] == [200] * 4
    assert sum("requests are not counted" in str(record.msg) for record in caplog.records) == 1


@contextlib.contextmanager
def a_server_that_hangs():
    """Open a port that takes connections and says nothing; yield its number."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# ── All together ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "body"), BODIES)
def test_when_all_places_are_taken_nothing_is_recorded(priced, acme, vendor, settings, path, body):
    settings.API_RECORDING_AT_ONCE = 1
    with pressure.recording():
        refused(post(vendor, path, body))
    assert not Call.objects.exists()
    assert post(vendor, path, body).status_code in {200, 204}


@pytest.mark.django_db(transaction=True)
def test_a_flood_is_refused_in_part_and_each_answer_is_true(priced, acme, now, settings):
    settings.API_RECORDING_AT_ONCE = 2
    accounts.open(organization=acme, now=now)
    _, secret = api_keys.issue(organization=None, name="k", scopes=[WRITE], now=now)

    def send(number):
        client = Client(headers={"authorization": f"Bearer {secret}"})
        response = post(client, body=[call_object(f"call_{number}_{item}") for item in range(50)])
        connections.close_all()
        return number, response

    with ThreadPoolExecutor(8) as pool:
        answered = list(pool.map(send, range(60)))
    statuses = {response.status_code for _, response in answered}
    assert statuses == {200, 429}
    for number, response in answered:
        count = Call.objects.filter(call_id__startswith=f"call_{number}_").count()
        assert count == (50 if response.status_code == 200 else 0)
        if response.status_code == 429:
            refused(response)


@pytest.mark.django_db
@pytest.mark.parametrize(("batches", "most"), [([30], 20), ([1, 1, 1], 20)])
def test_while_settlement_is_behind_nothing_more_is_recorded(
    priced, acme, vendor, record, settle, settings, monkeypatch, batches, most
):
    settings.API_MOST_WAITING_CALLS = most
    monkeypatch.setattr(pressure, "_MEASURED_EVERY_SECONDS", 0.0)
    for number, size in enumerate(batches):
        record(*[call_object(f"call_{number}_{item}") for item in range(size)])
    before = Call.objects.count()
    document = refused(post(vendor), slug="settlement-behind")
    assert "settlement" in document["title"]
    assert Call.objects.count() == before
    settle(acme)
    assert post(vendor).status_code == 200


@pytest.mark.django_db
def test_the_backlog_is_measured_now_and_then_only(priced, acme, vendor, monkeypatch):
    measured = []
    monkeypatch.setattr(pressure.backlog, "is_too_long", lambda **_: bool(measured.append(1)))
    assert [post(vendor).status_code for _ in range(5)] == [200] * 5
    assert len(measured) == 1


# ── The database ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def impatient(settings):
    """Give this test's connection the limits of a web process."""
    settings.WEB_LOCK_TIMEOUT_SECONDS, settings.WEB_STATEMENT_TIMEOUT_SECONDS = 1, 2
    web_connections._set_timeouts(sender=None, connection=connection)
    yield
    connection.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("path", "body"), BODIES[:2])
def test_f18_a_lock_that_is_not_given_in_time_is_a_503_and_nothing_is_recorded(
    priced, acme, vendor, now, impatient, path, body
):
    accounts.open(organization=acme, now=now)
    with psycopg.connect(**psycopg_parameters()) as other:
        other.execute("LOCK TABLE usage_call IN SHARE ROW EXCLUSIVE MODE")
        document = refused(post(vendor, path, body), 503, "database-unavailable")
        assert "safe to send it again" in document["detail"]
    assert not Call.objects.exists()
    assert post(vendor, path, body).status_code in {200, 204}
    assert Call.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_f26_a_lost_connection_is_a_503(priced, acme, vendor, monkeypatch):
    monkeypatch.setattr("accounts.api_keys.recognize", lost_connection(api_keys.recognize))
    refused(post(vendor), 503, "database-unavailable")
    connection.close()


@pytest.mark.django_db(transaction=True)
def test_f26_a_database_that_is_read_only_is_a_503_and_nothing_is_recorded(priced, acme, vendor):
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        refused(post(vendor), 503, "database-unavailable")
        cursor.execute("SET default_transaction_read_only = off")
    assert not Call.objects.exists()
    assert post(vendor).status_code == 200


def lost_connection(recognize):
    """Return `recognize`, behind which the server ends the connection, as at its shutdown."""

    def then_lose(*args, **options):
        key: ApiKey = recognize(*args, **options)
        with psycopg.connect(**psycopg_parameters(), autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
        return key

    return then_lose


def psycopg_parameters():
    parameters = connection.get_connection_params()
    return {name: parameters[name] for name in ("host", "port", "user", "password", "dbname") if name in parameters}
