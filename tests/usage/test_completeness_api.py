"""The completeness seal as programs read it."""

from datetime import timedelta

import pytest

from tests.conftest import NOW
from usage import completeness, intake_log
from usage.completeness import Arrival
from usage.intake_log import Rejected

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(hours=1)


@pytest.fixture(autouse=True)
def _an_hour_later(monkeypatch):
    monkeypatch.setattr("accounts.clock.now", lambda: LATER)


def let_arrive(organization, numbers, *, now=NOW, source="eu-1"):
    completeness.note([Arrival(organization.pk, source, n, now) for n in numbers], now=now)


def test_without_numbers_nothing_is_promised(key, acme):
    assert key(acme).get("/api/v1/completeness").json() == {
        "organization": "acme",
        "complete_to": None,
        "missing": 0,
        "arriving": 0,
        "rejected": 0,
        "sources": [],
    }


def test_gaps_and_rejections_are_told(key, acme, other):
    let_arrive(acme, [1, 2, 6])
    let_arrive(acme, [9], now=LATER)
    let_arrive(other, [1, 5])
    intake_log.note([Rejected(acme.pk, "call_1", 0, "", "No.")], [], now=NOW)
    answer = key(acme).get("/api/v1/completeness").json()
    (source,) = answer["sources"]
    assert (answer["missing"], answer["arriving"], answer["rejected"]) == (3, 2, 1)
    assert source["gaps"] == [{"after": 2, "before": 6, "missing": 3, "since": "2026-10-15T09:30:00Z"}]
    assert source["complete_to"] == answer["complete_to"] == "2026-10-15T09:30:00Z"
    assert (source["first"], source["last"], source["received"]) == (1, 9, 4)


def test_a_key_of_the_vendor_names_the_organization(vendor, acme):
    let_arrive(acme, [1])
    assert vendor.get("/api/v1/completeness").status_code == 400
    assert vendor.get("/api/v1/completeness", {"organization": "acme"}).json()["sources"][0]["received"] == 1
