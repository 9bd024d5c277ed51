"""A call's trace as programs read it."""

from datetime import timedelta

import pytest
from django.test import Client

from accounts import api_keys
from billing_portal.billing import month_end
from billing_portal.ledger import accounts
from tests.billing.world import CLOSING, MIDMONTH, invoice_of, load_prices, record_calls
from usage import intake_log
from usage.intake_log import Rejected, Repeated


@pytest.fixture(autouse=True)
def _closing_time(monkeypatch):
    monkeypatch.setattr("accounts.clock.now", lambda: CLOSING)


def reader(organization) -> Client:
    _, secret = api_keys.issue(organization=organization, name="k", scopes=["usage:read"], now=MIDMONTH)
    return Client(headers={"authorization": f"Bearer {secret}"})


def test_a_paid_call_is_told_from_arrival_to_payment(used):
    acme = used("acme")
    intake_log.note([], [Repeated(acme.pk, "call_1_7", False)], now=MIDMONTH + timedelta(days=1))
    invoice = invoice_of(acme)
    month_end.advance(invoice, now=CLOSING)
    invoice.refresh_from_db()
    trace = reader(acme).get("/api/v1/calls/call_1_7/trace").json()
    amount = trace["rated"]["amount_micros"]
    assert trace["stage"] == "paid"
    assert trace["received"]["at"] == "2027-02-10T21:30:00Z"
    assert trace["duplicates"]["times"] == 1
    assert trace["funded"]["billed_month"] == "2027-02"
    assert sum(part["micros"] for part in trace["funded"]["credits"]) + trace["funded"]["accrued_micros"] == amount
    assert sum(part["micros"] for part in trace["reported"]["reports"]) == amount
    assert {part["state"] for part in trace["reported"]["reports"]} == {"accepted"}
    assert sum(line["micros"] for line in trace["invoiced"]["lines"]) == amount
    assert (trace["invoiced"]["number"], trace["invoiced"]["state"]) == (invoice.number, "paid")
    assert trace["invoiced"]["paid_at"] is not None


@pytest.mark.django_db
def test_what_has_not_happened_is_null(acme):
    load_prices()
    accounts.open(organization=acme, now=MIDMONTH)
    record_calls(acme, 1, starts_at=MIDMONTH, now=MIDMONTH + timedelta(hours=1))
    trace = reader(acme).get("/api/v1/calls/call_1_0/trace").json()
    assert trace["stage"] == "rated"
    for step in ("rejected", "duplicates", "conflicts", "funded", "reported", "invoiced"):
        assert trace[step] is None


@pytest.mark.django_db
def test_a_rejected_call_says_why(acme):
    intake_log.note([Rejected(acme.pk, "call_1", 0, "duration_ms", "Expected `int`.")], [], now=MIDMONTH)
    trace = reader(acme).get("/api/v1/calls/call_1/trace").json()
    assert (trace["stage"], trace["received"]) == ("rejected", None)
    assert trace["rejected"] == {
        "times": 1,
        "first_at": "2027-02-10T09:30:00Z",
        "last_at": "2027-02-10T09:30:00Z",
        "field": "duration_ms",
        "reason": "Expected `int`.",
    }


@pytest.mark.django_db
def test_an_unknown_id_says_what_to_look_at(acme):
    answer = reader(acme).get("/api/v1/calls/call_nowhere/trace")
    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
    assert "letter by letter" in answer.json()["detail"]
    assert reader(acme).get("/api/v1/calls/a%00b/trace").status_code == 404
