"""Calls as files through the API: the list's filters, every call, the invoice's number."""

import csv
import io
import json
from datetime import date, timedelta

import pytest
from django.test import Client

from accounts import api_keys
from accounts.models import ApiKey
from billing_portal.billing.models import Invoice
from billing_portal.ledger import accounts, settlement
from tests.billing import world

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(acme, now, monkeypatch):
    """A program of Acme's, which has twelve settled calls and an invoice for them."""
    later = now + timedelta(hours=3)
    monkeypatch.setattr("accounts.clock.now", lambda: later)
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)
    world.load_prices()
    accounts.open(organization=acme, now=now.replace(day=1))
    world.record_calls(acme, 12, starts_at=now, now=later)
    settlement.settle_all(acme.pk, now=later)
    for state, number in (("void", "PV-1"), ("open", "PV-2")):
        Invoice.objects.create(
            organization=acme,
            stripe_invoice_id=f"in_{number}",
            month=date(2026, 10, 1),
            number=number,
            state=state,
            currency="USD",
            drafted_at=now,
        )
    _, secret = api_keys.issue(organization=acme, name="k", scopes=[ApiKey.Scope.USAGE_READ], now=now)
    return Client(headers={"authorization": f"Bearer {secret}"})


def body_of(response) -> str:
    assert response.status_code == 200
    return b"".join(response.streaming_content).decode()


def test_both_formats_hold_every_call_with_its_invoice(client):
    listed = {call["call_id"]: call["amount_micros"] for call in client.get("/api/v1/calls").json()["items"]}
    response = client.get("/api/v1/calls.csv")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(body_of(response), newline="")))
    assert {row["call_id"]: int(row["amount_micros"]) for row in rows} == listed
    assert {row["invoice"] for row in rows} == {"PV-2"}
    response = client.get("/api/v1/calls.jsonl")
    assert response.headers["Content-Type"] == "application/x-ndjson"
    objects = [json.loads(line) for line in body_of(response).splitlines()]
    assert {each["call_id"]: each["amount_micros"] for each in objects} == listed
    assert {each["invoice"] for each in objects} == {"PV-2"}


def test_the_lists_filters_hold_and_an_unknown_parameter_is_refused(client):
    every = client.get("/api/v1/calls").json()["items"]
    wanted = every[0]["call_id"]
    rows = list(csv.DictReader(io.StringIO(body_of(client.get("/api/v1/calls.csv", {"call_id": wanted})))))
    assert [row["call_id"] for row in rows] == [wanted]
    assert body_of(client.get("/api/v1/calls.jsonl", {"to": "2026-10-01"})) == ""
    for parameters in ({"limit": "5"}, {"cursor": "1-1"}, {"form": "x"}):
        assert client.get("/api/v1/calls.csv", parameters).status_code == 400


def test_a_program_may_ask_for_the_type_by_name(client):
    assert client.get("/api/v1/calls.csv", headers={"accept": "text/csv"}).status_code == 200
    assert client.get("/api/v1/calls.csv", headers={"accept": "text/html"}).status_code == 406


def test_the_description_names_both(client):
    paths = client.get("/api/v1/schema").json()["paths"]
    for path, content_type in (("csv", "text/csv"), ("jsonl", "application/x-ndjson")):
        described = paths[f"/api/v1/calls.{path}"]["get"]
        assert list(described["responses"]["200"]["content"]) == [content_type]
        assert {"from", "to", "product", "status"} <= {each["name"] for each in described["parameters"]}
