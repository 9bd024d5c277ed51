import pytest

from billing_portal.ledger import accounts, settlement
from tests.usage.conftest import call_object
from usage import arrivals, calls
from usage.calls import Filters

pytestmark = pytest.mark.django_db


def count(organization, seen, **filters):
    return arrivals.count(organization.pk, Filters(**filters), seen=seen, most=10)


def test_i16_what_is_new_is_counted_from_a_call_on_and_by_organization(priced, acme, other, record):
    assert arrivals.newest(acme.pk) == 0
    record(call_object("first"))
    seen = arrivals.newest(acme.pk)
    assert [call.id for call in calls.page(acme.pk, Filters())[0]] == [seen]
    record(*[call_object(f"call_{n}", direction="outbound" if n else "inbound") for n in range(3)])
    record(call_object("theirs", organization="other"))
    assert (count(acme, seen), count(acme, seen, direction="outbound"), count(acme, 0)) == (3, 2, 4)
    assert count(other, seen) == 1
    assert count(acme, arrivals.newest(acme.pk)) == 0


def test_it_counts_no_further_than_asked_and_looks_at_the_newest_alone(priced, acme, record, monkeypatch):
    record(*[call_object(f"call_{n}") for n in range(20)])
    assert count(acme, 0) == 10
    monkeypatch.setattr(calls, "SEARCHED", 5)
    record(*[call_object(f"late_{n}", direction="outbound") for n in range(6)])
    assert (count(acme, 0, direction="inbound"), count(acme, 0, direction="outbound")) == (0, 5)


def test_settlement_makes_nothing_new(priced, acme, record, now):
    record(*[call_object(f"call_{n}") for n in range(5)])
    seen = arrivals.newest(acme.pk)
    accounts.open(organization=acme, now=now)
    settlement.settle(acme.pk, now=now, limit=2)
    assert arrivals.newest(acme.pk) == seen
    assert count(acme, seen) == 0
