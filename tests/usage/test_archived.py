"""Calls whose month is detached: every reader of lists is told of them, and no sum forgets them."""

from datetime import UTC, date, datetime

import pytest

from tests.usage.conftest import READ, call_object, problem
from usage import archived, partitions
from usage.archived import ArchivedMonth

pytestmark = pytest.mark.django_db(transaction=True)
AUGUST, SEPTEMBER = date(2026, 8, 1), date(2026, 9, 1)


def at(instant, call_id):
    return call_object(call_id, start_timestamp=f"{instant}Z", end_timestamp=...)


@pytest.fixture
def put_away(priced, acme, other, record, settle, now):
    """August and September are archived; Acme has calls in both and in October, the other in October alone."""
    record(at("2026-08-31T23:59:59", "aug"), at("2026-09-01T00:00:00", "sep"), at("2026-10-01T00:00:00", "oct"))
    record(call_object("theirs", organization="other", start_timestamp="2026-10-02T00:00:00Z", end_timestamp=...))
    for organization in (acme, other):
        settle(organization)
    partitions.archive(now, months_kept=0)
    yield acme
    # The tables go back into their places for the tests that follow.
    record(at("2026-08-01T00:00:00", "late_aug"), at("2026-09-02T00:00:00", "late_sep"))


def span(organization, starts_at=None, ends_at=None):
    return archived.months(organization.pk, starts_at=starts_at, ends_at=ends_at)


def instant(*parts):
    return datetime(*parts, tzinfo=UTC)


def test_a_span_names_the_months_that_no_list_has(put_away, other):
    both = [ArchivedMonth(AUGUST, 1), ArchivedMonth(SEPTEMBER, 1)]
    assert span(put_away) == both
    assert span(put_away, instant(2026, 9, 1), instant(2026, 10, 15)) == both[1:]
    assert span(put_away, None, instant(2026, 9, 1)) == both[:1]
    assert span(put_away, instant(2026, 10, 1), instant(2026, 11, 1)) == []
    assert span(other) == []


def test_i16_a_call_put_away_is_known_to_its_organization_alone(put_away, other):
    assert archived.started_at(put_away.pk, "sep") == instant(2026, 9, 1)
    assert archived.started_at(put_away.pk, "oct") is None
    assert archived.started_at(put_away.pk, "never") is None
    assert archived.started_at(other.pk, "sep") is None


def test_the_api_says_what_its_list_lacks(put_away, key):
    client = key(put_away, READ)
    page = client.get("/api/v1/calls", {"from": "2026-09-01"}).json()
    assert ([item["call_id"] for item in page["items"]], page["archived"]) == (["oct"], ["2026-09"])
    assert client.get("/api/v1/calls", {"from": "2026-10-01"}).json()["archived"] == []
    problem(client.get("/api/v1/calls/sep"), 410, "archived")
    problem(client.get("/api/v1/calls/never"), 404, "not-found")
