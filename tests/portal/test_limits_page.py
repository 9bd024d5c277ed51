from datetime import date, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from billing_portal.ledger import accounts, alerts, authorization, limits, refusals, reservations
from billing_portal.ledger.models import Account, AlertSettings, Direction, SpendLimit
from tests.billing import world
from tests.conftest import NOW

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _frozen(monkeypatch):
    monkeypatch.setattr("accounts.clock.now", lambda: NOW)


@pytest.fixture
def books(acme):
    accounts.open(organization=acme, now=NOW)
    Account.objects.filter(organization=acme).update(has_card=True)
    return acme


@pytest.fixture
def page(alice, books):
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return lambda data=None, action="", **query: (
        client.get(f"/o/{books.public_id}/limits/", query)
        if data is None
        else client.post(f"/o/{books.public_id}/limits/{action}/", data)
    )


def cap(**fields):
    return {
        "cap": "25.50",
        "mode": "stop",
        "outbound_percent": "90",
        "inbound_percent": "110",
        "finishes_live_calls": "on",
        **fields,
    }


def settings_for_alerts(**fields):
    return {
        "budget": "",
        "spend_percents": "50, 80",
        "credit_percents": "100",
        "bucket_percents": "50, 100",
        "recipients": "",
        **fields,
    }


def test_an_empty_page_says_what_would_be_there(page):
    text = page().content.decode()
    for words in ("No cap is set", "Nothing is held", "No call was refused", "once there is a week of usage"):
        assert words in text


def test_a_cap_is_saved_with_what_still_goes_on(page, books):
    assert page(cap(), "cap").status_code == 302
    limit = limits.current(books.pk)
    assert (limit.cap_micros, limit.mode, limit.outbound_percent) == (25_500_000, "stop", 90)
    assert (limit.inbound_percent, limit.finishes_live_calls, limit.set_by.email) == (110, True, "alice@acme.example")
    assert "$2.55" in page().content.decode()  # what inbound calls may overshoot


def test_a_cap_that_would_stop_usage_now_is_asked_about_first(page, books):
    world.settled(books, {"platform": 30_000_000}, month=date(2026, 10, 1))
    response = page(cap(), "cap")
    assert response.status_code == 200
    assert "This would stop usage now" in response.content.decode()
    assert limits.current(books.pk) is None
    assert page(cap(confirm="on"), "cap").status_code == 302
    assert "of this month's cap of" in page().content.decode()


def test_an_empty_cap_lifts_it(page, books):
    page(cap(), "cap")
    page(cap(cap=""), "cap")
    assert limits.current(books.pk).cap_micros is None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cap": "-1"}, "greater than or equal to 0"),
        ({"cap": "a lot"}, "Enter a number"),
        ({"cap": "1.005"}, "no more than 2 decimal places"),
        ({"cap": "99999999999"}, "no more than"),
        ({"cap": "NaN"}, "Enter a number"),
        ({"mode": "maybe"}, "Select a valid choice"),
        ({"outbound_percent": "101"}, "less than or equal to 100"),
        ({"inbound_percent": "99"}, "greater than or equal to 100"),
        ({"outbound_percent": ""}, "required"),
    ],
)
def test_a_cap_that_makes_no_sense_is_refused_and_nothing_changes(wrong, words, page):
    response = page(cap(**wrong), "cap")
    assert response.status_code == 200
    assert words in response.content.decode()
    assert SpendLimit.objects.count() == 0


def test_alerts_are_saved(page, books):
    data = settings_for_alerts(
        budget="100", spend_percents="80% 50,90", recipients="Fin@acme.example\nfin@acme.example"
    )
    assert page(data, "alerts").status_code == 302
    terms = alerts.terms_of(books.pk)
    assert terms == alerts.Terms(
        spend_percents=(50, 80, 90),
        credit_percents=(100,),
        bucket_percents=(50, 100),
        budget_micros=100_000_000,
        recipients=("fin@acme.example",),
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"spend_percents": "0"},
        {"spend_percents": "many"},
        {"spend_percents": "1001"},
        {"credit_percents": "101"},
        {"bucket_percents": "101"},
        {"bucket_percents": "half"},
        {"budget": "0"},
        {"recipients": "nobody"},
        {"recipients": "\n".join(f"p{number}@acme.example" for number in range(11))},
    ],
)
def test_alerts_that_make_no_sense_are_refused(wrong, page):
    assert page(settings_for_alerts(**wrong), "alerts").status_code == 200
    assert AlertSettings.objects.count() == 0


def test_open_reservations_refused_calls_and_what_was_told_are_listed(page, books):
    limits.set(books.pk, limits.Terms(cap_micros=1_000_000), by=None, now=NOW)
    wish = reservations.Wish(reference="hold-1", micros=100_000, lasts_seconds=600, direction=Direction.INBOUND)
    reservations.reserve(books.pk, wish, now=NOW)
    world.settled(books, {"platform": 950_000}, month=date(2026, 10, 1))
    alerts.check(books.pk, now=NOW)
    refused = authorization.authorize(books.pk, now=NOW)
    for number in range(30):
        refusals.record(refused, call_id=f"call_{number:02}", now=NOW + timedelta(seconds=number), micros=5_000)
    text = page().content.decode()
    for words in ("hold-1", "call_29", "Monthly cap", "90% of $1.00 spent", "alice@acme.example", "Usage is stopped"):
        assert words in text
    assert "call_04" not in text
    following = page().context["refused_next"].partition("before=")[2].partition("#")[0]
    assert "call_04" in page(before=following).content.decode()
    assert page(before="nonsense").status_code == 200


def test_whoever_only_reads_finds_no_form(bob, books):
    client = Client()
    client.force_login(bob, backend="django.contrib.auth.backends.ModelBackend")
    limits.set(books.pk, limits.Terms(cap_micros=1_000_000), by=None, now=NOW)
    text = client.get(f"/o/{books.public_id}/limits/").content.decode()
    assert "Save the cap" not in text
    assert "Stop usage" in text


@pytest.mark.parametrize("name", ["overview", "credits", "limits"])
def test_pages_say_that_usage_is_stopped_also_when_nothing_is_left_to_pay(alice, books, name):
    # Between a payment and the end of the stop there is a deadline in the account, and no unpaid invoice.
    Account.objects.filter(organization=books).update(unpaid_stops_at=NOW - timedelta(hours=1))
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    response = client.get(reverse(name, args=[books.public_id]))
    assert response.status_code == 200
    text = " ".join(response.content.decode().split())
    assert "Usage is stopped" in text
    assert "An invoice was not paid in time. Usage goes on by itself" in text
