from datetime import date

import pytest

from tests.usage.conftest import problem
from tests.usage.test_changes import OCTOBER, SEPTEMBER, some
from usage import changes
from usage.changes import Span

pytestmark = pytest.mark.django_db
ADDRESS = "/api/v1/usage/changes"


@pytest.fixture
def used(priced, acme, record, settle, monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    record(*some(SEPTEMBER, 4), *some(OCTOBER, 7, ms=50_000, products=("platform", "gpt_4o")))
    settle(acme)
    return acme


def test_the_answer_adds_up_and_is_what_the_page_shows(used, key):
    document = key(used).get(ADDRESS).json()
    before, after = document["before"], document["after"]
    assert (before["from"], before["to"], before["calls"]) == ("2026-09-01", "2026-09-14", 4)
    assert (after["from"], after["to"], after["calls"]) == ("2026-10-01", "2026-10-14", 7)
    change = after["micros"] - before["micros"]
    assert document["change_micros"] == change == sum(each["micros"] for each in document["steps"])
    assert change == sum(each["change_micros"] for each in document["products"])
    for product in document["products"]:
        assert sum(each["micros"] for each in product["steps"]) == product["change_micros"]
        assert product["after"]["micros"] - product["before"]["micros"] == product["change_micros"]
    explained = changes.between(used.pk, *changes.so_far(date(2026, 10, 15)))
    assert {each["cause"]: each["micros"] for each in document["steps"]} == explained.parts


def test_billed_months_are_compared_as_they_were_billed(used, key):
    document = key(used).get(ADDRESS, {"billed_month": "2026-10"}).json()
    assert (document["before"]["billed_month"], document["after"]["billed_month"]) == ("2026-09", "2026-10")
    explained = changes.between(used.pk, Span.of_month(SEPTEMBER), Span.of_month(OCTOBER))
    assert document["change_micros"] == explained.micros
    swapped = key(used).get(ADDRESS, {"billed_month": "2026-09", "against_billed_month": "2026-10"}).json()
    assert swapped["change_micros"] == -explained.micros


def test_any_days_are_compared_with_any_others(used, key):
    asked = {"from": "2026-10-01", "to": "2026-10-07", "against_from": "2026-09-01", "against_to": "2026-09-30"}
    document = key(used).get(ADDRESS, asked).json()
    assert (document["before"]["to"], document["after"]["to"]) == ("2026-09-30", "2026-10-07")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"from": "2026-10-01"}, "to"),
        ({"from": "2026-10-02", "to": "2026-10-01"}, "to"),
        ({"from": "2026-10-01", "to": "2026-10-02", "against_to": "2026-09-01"}, "against_from"),
        ({"billed_month": "2026-10", "from": "2026-10-01"}, "from"),
        ({"billed_month": "2026-13"}, "billed_month"),
        ({"against_billed_month": "2026-09"}, "against_billed_month"),
        ({"from": "2026-10-01", "to": "yesterday"}, "to"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_field(used, key, asked, field):
    document = problem(key(used).get(ADDRESS, asked), 400, "invalid")
    assert [each["field"] for each in document["errors"]] == [field]
