"""Calls that were refused: listed once each, a thousand an hour, and read in pages."""

from datetime import timedelta

import pytest

from billing_portal.ledger import accounts, authorization, refusals
from billing_portal.ledger.models import Refusal, RefusalHour

pytestmark = pytest.mark.django_db


@pytest.fixture
def refused(acme, now):
    """Acme has books, no credit and no card."""
    accounts.open(organization=acme, now=now)
    return authorization.authorize(acme.pk, now=now)


def listed(organization, **place):
    return [each.call_id for each in refusals.newest(organization.pk, limit=10, **place)]


def test_what_was_refused_last_comes_first_also_page_by_page(acme, refused, now):
    for call_id, seconds in (("late", 9), ("one", 5), ("two", 5), ("three", 5), ("early", 1)):
        refusals.record(refused, call_id=call_id, now=now + timedelta(seconds=seconds))
    assert listed(acme) == ["late", "three", "two", "one", "early"]
    two = Refusal.objects.get(call_id="two")
    assert listed(acme, before=(two.last_at, two.pk)) == ["one", "early"]
    assert [each.call_id for each in refusals.newest(acme.pk, limit=2)] == ["late", "three"]


def test_the_thousandth_call_of_an_hour_is_listed_and_the_next_is_counted(acme, other, refused, now):
    hour_at = now.replace(minute=0)
    for organization in (acme, other):
        RefusalHour.objects.create(organization=organization, hour_at=hour_at, calls=999, unlisted=0)
    for call_id in ("thousandth", "next"):
        refusals.record(refused, call_id=call_id, now=now)
    assert listed(acme) == ["thousandth"]
    [hour] = refusals.unlisted(acme.pk, since=hour_at)
    assert (hour.calls, hour.unlisted) == (1_001, 1)
    assert refusals.unlisted(other.pk, since=hour_at) == []


def test_i06_a_call_that_another_has_listed_meanwhile_was_asked_for_once_more(acme, refused, now, monkeypatch):
    refusals.record(refused, call_id="call_1", now=now)
    monkeypatch.setattr(refusals, "_AGAIN", f"{refusals._AGAIN} AND false")  # it was not there yet
    later = now + timedelta(seconds=1)
    refusals.record(refused, call_id="call_1", now=later)
    [refusal] = Refusal.objects.all()
    assert (refusal.times, refusal.first_at, refusal.last_at) == (2, now, later)


def test_what_others_were_refused_is_not_told(acme, other, refused, now):
    accounts.open(organization=other, now=now)
    refusals.record(authorization.authorize(other.pk, now=now), call_id="theirs", now=now)
    RefusalHour.objects.update(unlisted=5)
    assert listed(acme) == []
    assert refusals.unlisted(acme.pk, since=now - timedelta(days=1)) == []
