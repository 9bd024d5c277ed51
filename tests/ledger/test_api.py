import json
from datetime import date, timedelta

import pytest
from django.test import Client

from accounts import api_keys
from accounts.models import ApiKey
from billing_portal.ledger import accounts, credits, limits, refusals, standing
from billing_portal.ledger.api import answers
from billing_portal.ledger.models import Account, Grant, Refusal, Reservation
from tests.billing import world
from tests.conftest import NOW
from tests.ledger.test_reservations import let_pass

pytestmark = pytest.mark.django_db
PROBLEM = "application/problem+json"


@pytest.fixture(autouse=True)
def _frozen(monkeypatch):
    monkeypatch.setattr("accounts.clock.now", lambda: NOW)


@pytest.fixture
def funded(acme, now):
    """Acme with a credit of 10,000 micros and no card."""
    accounts.open(organization=acme, now=now)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=10_000, reference="w", now=now)
    return acme


@pytest.fixture
def platform(db):
    _, secret = api_keys.issue(organization=None, name="Platform", scopes=[ApiKey.Scope.SPEND_AUTHORIZE], now=NOW)
    return Client(headers={"authorization": f"Bearer {secret}"})


def reserve(platform, organization="acme", **body):
    body = {"reference": "r1", "amount_micros": 1_000, **body}
    path = f"/api/v1/organizations/{organization}/reservations"
    return platform.post(path, {k: v for k, v in body.items() if v is not ...}, content_type="application/json")


def ask(platform, organization="acme", **query):
    return platform.get(f"/api/v1/organizations/{organization}/authorization", query)


def end(platform, verb, reference="r1", organization="acme"):
    return platform.post(f"/api/v1/organizations/{organization}/reservations/{reference}/{verb}")


def assert_problem(response, status, slug):
    assert response.status_code == status
    assert response.headers["Content-Type"] == PROBLEM
    document = response.json()
    assert document["type"] == f"urn:problem-type:{slug}"
    assert document["title"]
    return document


# ── Authorization ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_answer_says_whether_how_much_and_from_what(funded, platform, now):
    limits.set(funded.pk, limits.Terms(cap_micros=50_000, finishes_live_calls=False), by=None, now=now)
    world.settled(funded, {"platform": 300}, month=date(2026, 10, 1))
    reserve(platform)
    response = ask(platform)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json() == {
        "organization": "acme",
        "allowed": True,
        "reason": None,
        "detail": "",
        "direction": None,
        "live_calls": "end",
        "available_micros": 9_000,
        "currency": "USD",
        "month": "2026-10",
        "spent_micros": 300,
        "held_micros": 1_000,
        "credit_micros": 10_000,
        "accrued_micros": 0,
        "cap": {"micros": 50_000, "mode": "stop", "stops_at_micros": 50_000},
    }


def test_without_a_cap_none_is_named_and_live_calls_finish(funded, platform):
    found = ask(platform, direction="outbound").json()
    assert (found["cap"], found["live_calls"], found["direction"]) == (None, "finish", "outbound")


def test_a_cap_that_warns_stops_nowhere(funded, platform, now):
    limits.set(funded.pk, limits.Terms(cap_micros=50, mode="warn"), by=None, now=now)
    assert ask(platform).json()["cap"] == {"micros": 50, "mode": "warn", "stops_at_micros": None}


def test_a_refusal_says_in_words_what_to_do(acme, platform, now):
    accounts.open(organization=acme, now=now)
    found = ask(platform).json()
    assert (found["allowed"], found["detail"]) == (False, answers.DETAILS["credit_used_up"])


def test_a_direction_has_its_own_part_of_the_cap(funded, platform, now):
    world.settled(funded, {"platform": 95}, month=date(2026, 10, 1))
    limits.set(funded.pk, limits.Terms(cap_micros=100, outbound_percent=90), by=None, now=now)
    outbound, inbound = ask(platform, direction="outbound").json(), ask(platform, direction="inbound").json()
    assert (outbound["allowed"], outbound["reason"], outbound["cap"]["stops_at_micros"]) == (False, "spend_cap", 90)
    assert (inbound["allowed"], inbound["reason"], inbound["available_micros"]) == (True, None, 5)
    assert inbound["cap"]["stops_at_micros"] == 100
    assert ask(platform).json()["allowed"] is False


def test_a_refusal_is_kept_where_the_call_is_named(acme, platform, now):
    accounts.open(organization=acme, now=now)
    assert ask(platform).json()["reason"] == "credit_used_up"
    assert Refusal.objects.count() == 0
    ask(platform, call_id="call_1", direction="inbound")
    ask(platform, call_id="call_1", direction="inbound")
    [refusal] = refusals.newest(acme.pk, limit=5)
    assert (refusal.call_id, refusal.direction, refusal.times) == ("call_1", "inbound", 2)


def test_an_allowed_call_is_not_listed_as_refused(funded, platform):
    assert ask(platform, call_id="call_1").json()["allowed"] is True
    assert Refusal.objects.count() == 0


def test_an_authorization_is_one_read_beside_the_keys(funded, platform, django_assert_num_queries):
    ask(platform)  # notes the key's use
    with django_assert_num_queries(2):
        ask(platform)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"direction": "sideways"}, "direction"),
        ({"direction": "inbound\n"}, "direction"),
        ({"call_id": "\x00"}, "call_id"),
        ({"call_id": "x" * 129}, "call_id"),
        ({"nonsense": "1"}, "nonsense"),
    ],
)
def test_a_parameter_that_is_not_accepted_is_named(query, field, funded, platform):
    document = assert_problem(ask(platform, **query), 400, "invalid")
    assert [error["field"] for error in document["errors"]] == [field]


@pytest.mark.parametrize("reference", ["nobody", "%00", "other"])
def test_an_organization_without_books_is_missing(reference, acme, other, platform):
    assert_problem(ask(platform, reference), 404, "not-found")
    assert_problem(reserve(platform, reference), 404, "not-found")


# ── Reservations ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_reservation_is_made_once_per_reference(funded, platform, now):
    first = reserve(platform, call_id="call_1", direction="inbound", currency="USD", expires_in_seconds=60)
    again = reserve(platform, call_id="call_1", direction="inbound", currency="USD", expires_in_seconds=60)
    assert (first.status_code, again.status_code) == (201, 200)
    kept = Reservation.objects.get()
    document = first.json()
    assert {name: document[name] for name in document if not name.endswith("_at")} == {
        "organization": "acme",
        "reference": "r1",
        "call_id": "call_1",
        "direction": "inbound",
        "amount_micros": 1_000,
        "currency": "USD",
        "state": "open",
    }
    assert document["ended_at"] is None
    assert kept.expires_at - kept.created_at == timedelta(seconds=60)
    assert again.json() == first.json()
    assert standing.of(funded.pk, now=now).held_micros == 1_000


def test_an_hour_is_what_a_reservation_holds_unless_it_says_otherwise(funded, platform):
    reserve(platform)
    assert Reservation.objects.get().lasts_seconds == 3_600


def test_more_than_there_is_is_refused_with_what_there_is(funded, platform):
    document = assert_problem(reserve(platform, amount_micros=10_001, call_id="call_9"), 402, "spend-refused")
    assert (document["reason"], document["available_micros"], document["currency"]) == ("credit_used_up", 10_000, "USD")
    assert "card" in document["detail"]
    assert (Reservation.objects.count(), Refusal.objects.get().call_id) == (0, "call_9")


def test_a_replayed_reference_with_other_content_is_a_conflict(funded, platform, now):
    reserve(platform)
    document = assert_problem(reserve(platform, amount_micros=2_000), 409, "reference-reused")
    assert document["title"] == "The reference is taken"
    assert document["detail"].startswith("r1 names a reservation of other content.")
    assert standing.of(funded.pk, now=now).held_micros == 1_000


def test_a_reservation_ends_as_it_is_told_and_again_changes_nothing(funded, platform):
    for reference, verb, state in (("a", "release", "released"), ("b", "use", "used")):
        reserve(platform, reference=reference)
        first, again = end(platform, verb, reference), end(platform, verb, reference)
        document, kept = first.json(), Reservation.objects.get(reference=reference)
        assert (first.status_code, document["state"]) == (200, state)
        assert (document["organization"], document["reference"]) == ("acme", reference)
        for name in ("created_at", "expires_at", "ended_at"):
            assert document[name] == getattr(kept, name).isoformat().replace("+00:00", "Z")
        assert again.json() == first.json()
    document = assert_problem(end(platform, "use", "a"), 409, "reservation-ended")
    assert (document["state"], document["title"]) == ("released", "The reservation is released already")
    assert document["detail"] == "It stays as it is."
    found = platform.get("/api/v1/organizations/acme/reservations/a").json()
    assert (found["organization"], found["state"]) == ("acme", "released")


def test_an_expired_reservation_is_named_as_such(funded, platform):
    reserve(platform)
    let_pass(Reservation.objects.get())
    for response in (end(platform, "use"), end(platform, "release"), reserve(platform)):
        document = assert_problem(response, 409, "reservation-expired")
        assert (document["state"], document["title"]) == ("expired", "The reservation has expired")
        assert "with another reference" in document["detail"]
    assert platform.get("/api/v1/organizations/acme/reservations/r1").json()["state"] == "expired"


@pytest.mark.parametrize("verb", ["use", "release"])
def test_an_unknown_reservation_is_missing(verb, funded, platform):
    assert_problem(end(platform, verb, "nowhere"), 404, "not-found")
    assert_problem(end(platform, verb, "%00"), 404, "not-found")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"amount_micros": 0}, "amount_micros"),
        ({"amount_micros": -1}, "amount_micros"),
        ({"amount_micros": 1.5}, "amount_micros"),
        ({"amount_micros": "1000"}, "amount_micros"),
        ({"amount_micros": 10**15 + 1}, "amount_micros"),
        ({"amount_micros": 10**30}, "amount_micros"),
        ({"amount_micros": None}, "amount_micros"),
        ({"amount_micros": ...}, "amount_micros"),
        ({"reference": ...}, "reference"),
        ({"reference": ""}, "reference"),
        ({"reference": "a/b"}, "reference"),
        ({"reference": "..\n"}, "reference"),
        ({"reference": "x" * 129}, "reference"),
        ({"call_id": "\x00"}, "call_id"),
        ({"direction": "up"}, "direction"),
        ({"currency": "usd"}, "currency"),
        ({"expires_in_seconds": 0}, "expires_in_seconds"),
        ({"expires_in_seconds": 86_401}, "expires_in_seconds"),
        ({"minutes": 5}, ""),
    ],
)
def test_a_field_that_is_not_accepted_is_named_and_nothing_is_held(wrong, field, funded, platform):
    document = assert_problem(reserve(platform, **wrong), 400, "invalid")
    assert [error["field"] for error in document["errors"]] == [field]
    assert document["errors"][0]["reason"]
    assert Reservation.objects.count() == 0


def test_a_whole_number_may_be_written_with_a_point(funded, platform):
    body = b'{"reference": "r1", "amount_micros": 5.0}'
    response = platform.post("/api/v1/organizations/acme/reservations", body, content_type="application/json")
    assert (response.status_code, response.json()["amount_micros"]) == (201, 5)


def test_f41_another_currency_is_refused(funded, platform):
    document = assert_problem(reserve(platform, currency="EUR"), 400, "currency-mismatch")
    assert document["errors"] == [{"field": "currency", "reason": "The organization pays in USD, not in EUR."}]
    assert Reservation.objects.count() == 0


@pytest.mark.parametrize(
    ("body", "content_type", "status", "slug"),
    [
        (b"", "application/json", 400, "unreadable-body"),
        (b"{", "application/json", 400, "unreadable-body"),
        (b'{"reference": "\xff"}', "application/json", 400, "unreadable-body"),
        (b"[" * 100_000, "application/json", 400, "unreadable-body"),
        (b'{"reference": %s' % (b"[" * 100_000), "application/json", 400, "unreadable-body"),
        (b"[]", "application/json", 400, "unreadable-body"),
        (b" " * (10 * 1024 * 1024 + 1), "application/json", 413, "body-too-large"),
        (json.dumps({"reference": "r", "amount_micros": 1}).encode(), "text/plain", 415, "unsupported-media-type"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body, content_type, status, slug, funded, platform):
    path = "/api/v1/organizations/acme/reservations"
    assert_problem(platform.post(path, body, content_type=content_type), status, slug)
    assert Reservation.objects.count() == 0


def test_a_frozen_account_reserves_nothing(funded, platform, now):
    accounts.freeze(funded.pk, reason="x", now=now)
    assert assert_problem(reserve(platform), 402, "spend-refused")["reason"] == "frozen"


def test_a_reservation_is_one_short_transaction(funded, platform, django_assert_max_num_queries):
    Account.objects.filter(organization=funded).update(has_card=True)
    reserve(platform, reference="warm")
    # The key, the organization, begin, the lock, what is known of the reference, the standing, the row, commit.
    with django_assert_max_num_queries(8):
        reserve(platform)


def test_what_cannot_be_read_of_a_body_is_named(funded, platform):
    path = "/api/v1/organizations/acme/reservations"
    body = b'{"reference": "\xff", "amount_micros": 1}'
    document = assert_problem(platform.post(path, body, content_type="application/json"), 400, "unreadable-body")
    assert document["detail"] == "The value of reference cannot be read."
