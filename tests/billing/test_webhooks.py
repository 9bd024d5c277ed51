"""The webhook address: what is signed is stored once and answered; nothing else happens, and nothing is a 500."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import OperationalError as DatabaseAway
from django.db import connection
from django.test import Client
from kombu.exceptions import OperationalError

from billing_portal.billing import tasks, webhooks
from billing_portal.billing.models import InboxEvent

SECRET = "whsec_of_the_test"
URL = "/stripe/webhooks/"
pytestmark = pytest.mark.django_db
committed = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _only_stored(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are queued to nobody."""
    settings.STRIPE_WEBHOOK_SECRETS = [SECRET]
    monkeypatch.setattr(tasks.handle_event, "apply_async", lambda arguments, **_: None)


def event(**changes: Any) -> dict[str, Any]:
    return {
        "id": "evt_1",
        "object": "event",
        "type": "customer.updated",
        "api_version": "2026-05-27.dahlia",
        "created": 1_800_000_000,
        "livemode": False,
        "data": {"object": {"id": "cus_1", "object": "customer"}},
        **changes,
    }


def sign(body: bytes, *, secret: str = SECRET, at: float | None = None) -> str:
    signed_at = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{signed_at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={signed_at},v1={digest}"


def post(body: Any, *, signature: str | None = None, **signing: Any) -> int:
    """Deliver a body as Stripe does, and return the status."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    header = sign(raw, **signing) if signature is None else signature
    client = Client(enforce_csrf_checks=True)
    return client.post(URL, raw, content_type="application/json", headers={"Stripe-Signature": header}).status_code


@committed
def test_a_signed_event_is_stored_and_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    queued: list[int] = []
    monkeypatch.setattr(tasks.handle_event, "apply_async", lambda arguments, **_: queued.extend(arguments))
    assert post(event()) == 200
    stored = InboxEvent.objects.get()
    assert (stored.stripe_event_id, stored.type, stored.state) == ("evt_1", "customer.updated", "received")
    assert (stored.object_id, stored.stripe_customer_id) == ("cus_1", "cus_1")
    assert (stored.payload, stored.occurred_at.timestamp()) == (event(), 1_800_000_000)
    assert queued == [stored.pk]


@committed
def test_f1_the_same_event_twenty_times_at_once_is_one_row() -> None:
    def deliver(_: int) -> int:
        try:
            return post(event())
        finally:
            connection.close()

    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(deliver, range(20))) == [200] * 20
    assert InboxEvent.objects.count() == 1


@committed
def test_f1_a_repetition_is_not_queued_again(monkeypatch: pytest.MonkeyPatch) -> None:
    queued: list[int] = []
    monkeypatch.setattr(tasks.handle_event, "apply_async", lambda arguments, **_: queued.extend(arguments))
    assert [post(event()) for _ in range(3)] == [200] * 3
    assert len(queued) == 1


@pytest.mark.parametrize(
    "signature",
    ["", "t=1,v1=", "v1=abc", "t=abc,v1=abc", "t=1", "t=²,v1=a", "t=1,t=2,v1=a", "=", ",,,", "t=99999999999999,v1=a"],
)
def test_f5_a_malformed_signature_is_refused(signature: str) -> None:
    assert post(event(), signature=signature) == 400
    assert not InboxEvent.objects.exists()


def test_f5_a_forged_signature_is_refused() -> None:
    body = json.dumps(event()).encode()
    assert post(body, secret="whsec_wrong") == 400
    assert post(body, secret="") == 400
    assert post(body + b" ", signature=sign(body)) == 400
    assert post(body, signature=f"t={int(time.time())},v1=é") == 400
    assert not InboxEvent.objects.exists()


@pytest.mark.parametrize("secrets", [[], [""]])
def test_f5_an_empty_secret_signs_nothing(settings: Any, secrets: list[str]) -> None:
    settings.STRIPE_WEBHOOK_SECRETS = secrets
    assert post(event(), secret="") == 400
    assert not InboxEvent.objects.exists()


@pytest.mark.parametrize("seconds", [-303, 303, -86_400, 86_400])
def test_f6_a_stale_or_future_signature_is_refused(seconds: int) -> None:
    assert post(event(), at=time.time() + seconds) == 400
    assert not InboxEvent.objects.exists()


@pytest.mark.parametrize("seconds", [-295, 295])
def test_f6_a_signature_within_five_minutes_is_taken(seconds: int) -> None:
    assert post(event(), at=time.time() + seconds) == 200


def test_f7_both_secrets_are_taken_while_one_is_rotated(settings: Any) -> None:
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new", SECRET]
    assert post(event(id="evt_old"), secret=SECRET) == 200
    assert post(event(id="evt_new"), secret="whsec_new") == 200
    assert InboxEvent.objects.count() == 2


def test_f7_any_of_several_signatures_will_do() -> None:
    body = json.dumps(event()).encode()
    at = int(time.time())
    wrong, right = sign(body, secret="whsec_other", at=at), sign(body, at=at)
    assert post(body, signature=f"{wrong},{right.split(',')[1]},v0=ignored") == 200


def test_f8_an_unknown_type_is_stored() -> None:
    unknown = {"object": {"id": "new_1", "object": "something.new"}}
    assert post(event(type="something.new.happened", data=unknown)) == 200
    assert InboxEvent.objects.get().state == InboxEvent.State.RECEIVED


def test_f9_a_huge_body_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"x" * (webhooks.LONGEST_BODY + 1)
    assert post(body) == 413
    assert not InboxEvent.objects.exists()


def test_f10_another_api_version_is_parked() -> None:
    assert post(event(api_version="2020-08-27")) == 200
    parked = InboxEvent.objects.get()
    assert parked.state == InboxEvent.State.PARKED
    assert "2020-08-27" in parked.reason


@pytest.mark.parametrize("changes", [{"livemode": True}, {"account": "acct_other"}])
def test_f11_another_mode_or_account_is_parked(changes: dict[str, Any]) -> None:
    assert post(event(**changes)) == 200
    assert InboxEvent.objects.get().state == InboxEvent.State.PARKED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"{}",
        b"[" * 100_000,
        b'{"id": 1' + b"0" * 5000 + b"}",
    ],
)
def test_f12_what_is_no_event_is_refused(body: bytes) -> None:
    assert post(body) == 400
    assert not InboxEvent.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"id": None},
        {"id": ""},
        {"id": "e" * 256},
        {"id": ["evt_1"]},
        {"type": 7},
        {"type": "t" * 300},
        {"object": "list"},
        {"created": "soon"},
        {"created": None},
        {"created": 10**30},
        {"data": None},
        {"data": []},
        {"data": {"object": "cus_1"}},
        {"data": {"object": ["cus_1"]}},
        {"data": {"object": {"id": 7}}},
        {"data": {"object": {"id": "cus_1", "customer": {"name": "x"}}}},
        {"api_version": {"a": 1}},
    ],
)
def test_f12_an_event_of_the_wrong_shape_is_refused(changes: dict[str, Any]) -> None:
    assert post(event(**changes)) == 400
    assert not InboxEvent.objects.exists()


@committed
def test_f12_what_the_database_cannot_hold_is_refused() -> None:
    for changes in (
        {"id": "evt_\x00"},
        {"type": "t" * 101},
        {"api_version": "v" * 41},
        {"data": {"object": {"id": "c", "name": "a\x00b"}}},
        {"data": {"object": {"id": "c", "name": "\ud800"}}},
        {"data": {"object": {"id": "c", "amount": float("nan")}}},
    ):
        assert post(event(**changes)) == 400, changes
    assert not InboxEvent.objects.exists()


def thin(**changes: Any) -> dict[str, Any]:
    return {
        "id": "evt_thin",
        "object": "v2.core.event",
        "type": "v2.core.account.updated",
        "livemode": False,
        "created": "2027-02-10T09:30:00.000Z",
        "related_object": {"id": "acct_1", "type": "v2.core.account", "url": "/v2/core/accounts/acct_1"},
        **changes,
    }


@pytest.mark.parametrize("related", [None, {"id": "mtr_1", "type": "billing.meter", "url": "/v1/billing/meters/mtr_1"}])
def test_f12_a_thin_event_is_stored(related: dict[str, str] | None) -> None:
    assert post(thin(related_object=related)) == 200
    assert InboxEvent.objects.get().occurred_at.isoformat() == "2027-02-10T09:30:00+00:00"


def test_refused_usage_is_parked_for_a_person() -> None:
    assert post(thin(type="v1.billing.meter.error_report_triggered")) == 200
    parked = InboxEvent.objects.get()
    assert parked.state == InboxEvent.State.PARKED
    assert "refused reported usage" in parked.reason


@committed
def test_f20_without_a_broker_the_event_is_stored_and_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(arguments: tuple[int], *, countdown: float | None, retry: bool) -> None:
        raise OperationalError("no broker")

    monkeypatch.setattr(tasks.handle_event, "apply_async", refuse)
    assert post(event()) == 200
    assert InboxEvent.objects.get().state == InboxEvent.State.RECEIVED


def test_only_posts_are_answered(client: Client) -> None:
    assert client.get(URL).status_code == 405


@pytest.fixture
def count_queries(django_assert_max_num_queries: Callable[..., Any]) -> Iterator[None]:
    with django_assert_max_num_queries(1):
        yield


def test_storing_is_one_statement(count_queries: None) -> None:
    assert post(event()) == 200


def test_f26_what_could_not_be_stored_is_not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(payload: Any, **_: Any) -> None:
        raise DatabaseAway("could not extend file: No space left on device")

    monkeypatch.setattr(webhooks.inbox, "record", fail)
    client = Client(raise_request_exception=False)
    body = json.dumps(event()).encode()
    answer = client.post(URL, body, content_type="application/json", headers={"Stripe-Signature": sign(body)})
    assert answer.status_code >= 500
    assert not InboxEvent.objects.exists()


@committed
def test_f26_while_the_database_is_read_only_nothing_is_acknowledged() -> None:
    body = json.dumps(event()).encode()
    client = Client(raise_request_exception=False)
    headers = {"Stripe-Signature": sign(body)}
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        assert client.post(URL, body, content_type="application/json", headers=headers).status_code == 500
        cursor.execute("SET default_transaction_read_only = off")
    assert not InboxEvent.objects.exists()
    assert client.post(URL, body, content_type="application/json", headers=headers).status_code == 200
