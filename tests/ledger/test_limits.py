from dataclasses import replace
from datetime import date, timedelta

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from billing_portal.ledger import accounts, limits, settlement, standing
from billing_portal.ledger.limits import Terms
from billing_portal.ledger.models import SpendLimit
from tests.billing import world
from usage import rollups

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
    assert str(stopped.value) == "500 micros are spent, the cap would be 500."
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
    with pytest.raises(limits.CapOutOfRange, match=f"^{micros}$"):
        limits.set(acme_spent.pk, Terms(cap_micros=micros), by=None, now=now)
    assert limits.current(acme_spent.pk) is None


@pytest.mark.parametrize("micros", [0, limits.MOST_MICROS])
def test_the_bounds_of_the_range_are_in_it(micros, acme_spent, now):
    terms = Terms(cap_micros=micros)
    assert limits.set(acme_spent.pk, terms, by=None, now=now, even_if_usage_stops=True).cap_micros == micros


def test_every_term_is_kept_and_a_change_of_any_is_a_change(acme_spent, other, alice, now):
    accounts.open(organization=other, now=now)
    limits.set(other.pk, Terms(cap_micros=1), by=None, now=now)
    terms = Terms(
        cap_micros=900,
        mode=SpendLimit.Mode.WARN,
        outbound_percent=70,
        inbound_percent=130,
        finishes_live_calls=False,
    )
    kept = limits.set(acme_spent.pk, terms, by=alice, now=now)
    kept.refresh_from_db()
    assert (kept.cap_micros, kept.mode, kept.outbound_percent, kept.inbound_percent) == (900, "warn", 70, 130)
    assert (kept.finishes_live_calls, kept.set_at, kept.set_by) == (False, now, alice)
    assert limits.set(acme_spent.pk, terms, by=alice, now=now) == kept
    for changed in (
        {"mode": "stop"},
        {"outbound_percent": 71},
        {"inbound_percent": 131},
        {"finishes_live_calls": True},
    ):
        terms = replace(terms, **changed)
        assert limits.set(acme_spent.pk, terms, by=alice, now=now) not in {kept, None}
        assert limits.current(acme_spent.pk) == limits.set(acme_spent.pk, terms, by=alice, now=now)
    assert SpendLimit.objects.filter(organization=acme_spent).count() == 5


def test_the_overshoot_is_what_inbound_calls_may_and_the_dearest_hour_of_thirty_days(with_calls, now):
    acme = with_calls("acme", 90, starts_at=now - timedelta(days=29))
    settlement.settle_all(acme.pk, now=now)
    hours = rollups.by_hour(acme.pk, starts_at=now - timedelta(days=60), ends_at=now)
    world.record_calls(
        acme, 200, starts_at=now - timedelta(days=30, hours=5), now=now.replace(year=now.year + 1), seed=2
    )
    settlement.settle_all(acme.pk, now=now)
    assert limits.overshoot(standing.of(acme.pk, now=now), now=now) == limits.Overshoot(0, 0)
    put = {"by": None, "now": now, "even_if_usage_stops": True}
    limits.set(acme.pk, Terms(cap_micros=1_001, mode=SpendLimit.Mode.WARN), **put)
    assert limits.overshoot(standing.of(acme.pk, now=now), now=now).micros == 0
    limits.set(acme.pk, Terms(cap_micros=1_001, inbound_percent=110), **put)
    found = limits.overshoot(standing.of(acme.pk, now=now), now=now)
    assert found.inbound_micros == 100  # a tenth, rounded down
    assert found.running_micros == max(hour.micros for hour in hours) > 0
    assert found.micros == found.inbound_micros + found.running_micros


def test_without_usage_nothing_runs_that_could_overshoot(acme_spent, now):
    limits.set(acme_spent.pk, Terms(cap_micros=501), by=None, now=now)
    assert limits.overshoot(standing.of(acme_spent.pk, now=now), now=now) == limits.Overshoot(0, 0)


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


def test_who_is_frozen_may_still_lower_the_cap(acme_spent, now):
    accounts.freeze(acme_spent.pk, reason="A difference", now=now)
    limits.set(acme_spent.pk, Terms(cap_micros=1), by=None, now=now, even_if_usage_stops=True)
    assert limits.current(acme_spent.pk).cap_micros == 1
