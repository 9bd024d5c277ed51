from datetime import date

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from billing_portal.ledger import accounts, limits
from billing_portal.ledger.limits import Terms
from billing_portal.ledger.models import SpendLimit
from tests.billing import world

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme_spent(acme, now):
    """Acme has spent 500 micros this month."""
    accounts.open(organization=acme, now=now)
    world.settled(acme, {"platform": 500}, month=date(2026, 10, 1))
    return acme


def test_a_cap_that_would_stop_usage_at_once_has_to_be_meant(acme_spent, alice, now):
    with pytest.raises(limits.UsageWouldStop) as stopped:
        limits.set(acme_spent.pk, Terms(cap_micros=500), by=alice, now=now)
    assert (stopped.value.spent_micros, stopped.value.cap_micros) == (500, 500)
    assert limits.current(acme_spent.pk) is None
    limits.set(acme_spent.pk, Terms(cap_micros=500), by=alice, now=now, even_if_usage_stops=True)
    assert limits.current(acme_spent.pk).cap_micros == 500


def test_a_cap_that_only_warns_or_lies_higher_needs_no_second_thought(acme_spent, alice, now):
    limits.set(acme_spent.pk, Terms(cap_micros=100, mode=SpendLimit.Mode.WARN), by=alice, now=now)
    limits.set(acme_spent.pk, Terms(cap_micros=501), by=alice, now=now)
    limits.set(acme_spent.pk, Terms(cap_micros=None), by=alice, now=now)
    assert limits.current(acme_spent.pk).cap_micros is None


def test_every_change_is_kept_with_who_made_it(acme_spent, alice, now):
    for cap in (900, 800, 800):
        limits.set(acme_spent.pk, Terms(cap_micros=cap), by=alice, now=now)
    kept = SpendLimit.objects.filter(organization=acme_spent).order_by("id")
    assert [(each.cap_micros, each.set_by) for each in kept] == [(900, alice), (800, alice)]
    for change in (lambda: kept.update(cap_micros=1), kept.delete):
        with pytest.raises(DatabaseError, match="Cannot update or delete"), transaction.atomic():
            change()


@pytest.mark.parametrize("micros", [-1, limits.MOST_MICROS + 1])
def test_a_cap_out_of_range_is_refused(micros, acme_spent, now):
    with pytest.raises(limits.CapOutOfRange):
        limits.set(acme_spent.pk, Terms(cap_micros=micros), by=None, now=now)
    assert limits.current(acme_spent.pk) is None


@pytest.mark.parametrize(
    ("wrong", "constraint"),
    [
        ({"cap_micros": -1}, "spend_limit_is_not_negative"),
        ({"outbound_percent": 0}, "spend_limit_outbound_is_within_the_cap"),
        ({"outbound_percent": 101}, "spend_limit_outbound_is_within_the_cap"),
        ({"inbound_percent": 99}, "spend_limit_inbound_is_at_least_the_cap"),
        ({"inbound_percent": 201}, "spend_limit_inbound_is_at_least_the_cap"),
        ({"mode": "maybe"}, "spend_limit_mode_is_known"),
    ],
)
def test_the_database_refuses_terms_that_make_no_sense(wrong, constraint, acme, now):
    with pytest.raises(IntegrityError, match=constraint):
        SpendLimit.objects.create(organization=acme, set_at=now, **wrong)


def test_an_organization_without_books_is_named(acme, now):
    with pytest.raises(accounts.AccountMissing):
        limits.set(acme.pk, Terms(cap_micros=1), by=None, now=now)
