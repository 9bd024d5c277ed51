"""Settlement on real charges: numbering, funding, months, and what concurrency must not change."""

import threading
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection

from accounts import organizations
from billing_portal.ledger import accounts, balances, credits, periods, settlement, totals, verification
from billing_portal.ledger.models import Burn, Grant, Settlement
from tests.billing import world
from tests.charged import all_charges

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_settling_behind_the_back(monkeypatch):
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


def charges_of(organization):
    return all_charges(organization=organization)


def gross_of(organization) -> int:
    return sum(charge.amount_micros for charge in charges_of(organization))


def test_i04_charges_are_numbered_from_one_without_a_gap(with_calls, now):
    acme = with_calls("acme", 25)
    assert settlement.settle_all(acme.pk, now=now) == 25
    assert [charge.sequence for charge in charges_of(acme)] == list(range(1, 26))
    assert list(verification.verify(acme.pk)) == []


def test_nothing_waiting_settles_nothing(with_calls, now):
    acme = with_calls("acme", 3)
    settlement.settle_all(acme.pk, now=now)
    assert settlement.settle(acme.pk, now=now) == 0
    assert Settlement.objects.count() == 1


def test_credit_pays_first_and_the_rest_is_accrued(with_calls, now):
    acme = with_calls("acme", 40)
    gross = gross_of(acme)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=gross // 3, reference="w", now=now)
    settlement.settle_all(acme.pk, now=now)
    balance = balances.balance(accounts.open(organization=acme, now=now), now=now)
    assert balance.credit_micros == 0
    assert balance.accrued_micros == gross - gross // 3
    assert list(verification.verify(acme.pk)) == []


def test_i04_every_charge_is_funded_exactly(with_calls, now):
    acme = with_calls("acme", 30)
    gross = gross_of(acme)
    for number, part in enumerate((5, 7, 3)):
        credits.grant(
            organization=acme, kind=Grant.Kind.GOODWILL, micros=gross // part, reference=f"g{number}", now=now
        )
    while settlement.settle(acme.pk, now=now, limit=7):
        pass
    by_grant: dict[int, int] = {}
    accrued = 0
    for charge in charges_of(acme):
        funding = settlement.funding(charge)
        assert sum(micros for _, micros in funding.grants) + funding.accrued_micros == charge.amount_micros
        accrued += funding.accrued_micros
        for grant, micros in funding.grants:
            by_grant[grant.pk] = by_grant.get(grant.pk, 0) + micros
    for grant in Grant.objects.all():
        assert by_grant.get(grant.pk, 0) == grant.amount_micros - grant.remaining_micros
    assert accrued == totals.month(acme.pk, date(2026, 10, 1)).accrued_micros


def test_i04_a_single_micro_of_credit_is_named_by_the_charge_that_it_paid_for(with_calls, now):
    acme, other = with_calls("acme", 3), with_calls("other", 3)
    world.record_calls(acme, 3, starts_at=now + timedelta(hours=1), now=now.replace(year=now.year + 1), seed=2)
    settlement.settle_all(other.pk, now=now)
    grant = credits.grant(organization=acme, kind=Grant.Kind.GOODWILL, micros=1, reference="g", now=now)
    first = next(charge for charge in charges_of(acme) if charge.amount_micros)
    assert settlement.funding(first) is None  # it waits
    settlement.settle_all(acme.pk, now=now)
    funded = [settlement.funding(charge) for charge in charges_of(acme) if charge.amount_micros]
    assert [each.grants for each in funded] == [[(grant, 1)], *[[] for _ in funded[1:]]]
    assert funded[0].accrued_micros == first.amount_micros - 1
    # In the next settlement too it is the first that is paid for.
    grant = credits.grant(organization=acme, kind=Grant.Kind.GOODWILL, micros=1, reference="h", now=now)
    world.record_calls(acme, 3, starts_at=now + timedelta(hours=2), now=now.replace(year=now.year + 1), seed=3)
    settlement.settle_all(acme.pk, now=now)
    funded = [settlement.funding(charge) for charge in charges_of(acme)[6:] if charge.amount_micros]
    assert [each.grants for each in funded] == [[(grant, 1)], *[[] for _ in funded[1:]]]


def test_i08_small_batches_end_like_one_large_one(with_calls, now):
    acme, other = with_calls("acme", 30), with_calls("other", 30)
    for organization in (acme, other):
        credits.grant(organization=organization, kind=Grant.Kind.WELCOME, micros=500_000, reference="w", now=now)
        credits.grant(organization=organization, kind=Grant.Kind.PREPAID, micros=900_000, reference="p", now=now)
    settlement.settle_all(acme.pk, now=now)
    while settlement.settle(other.pk, now=now, limit=4):
        pass
    october = date(2026, 10, 1)
    assert totals.month(acme.pk, october) == totals.month(other.pk, october)
    left = [
        list(Grant.objects.filter(organization=each).values_list("kind", "remaining_micros")) for each in (acme, other)
    ]
    assert left[0] == left[1]


def test_i08_settling_many_at_once_is_settling_each(with_calls, now):
    together = [with_calls("a", 12), with_calls("b", 7), with_calls("c", 5)]
    apart = [with_calls("d", 12), with_calls("e", 7), with_calls("f", 5)]
    for three in (together, apart):
        for organization, micros in zip(three, (900_000, 10**9, None), strict=True):
            for number in range(2):
                if micros:
                    kind = Grant.Kind.PREPAID
                    credits.grant(organization=organization, kind=kind, micros=micros, reference=f"{number}", now=now)
    settled = settlement.settle_many([each.pk for each in together], now=now)
    assert settled == {organization.pk: calls for organization, calls in zip(together, (12, 7, 5), strict=True)}
    for one, other in zip(together, apart, strict=True):
        settlement.settle_all(other.pk, now=now)
        assert totals.month(one.pk, date(2026, 10, 1)) == totals.month(other.pk, date(2026, 10, 1))
        assert _burns(one) == _burns(other)
        assert [charge.sequence for charge in charges_of(one)] == list(range(1, settled[one.pk] + 1))
        assert list(verification.verify(one.pk)) == []
    assert settlement.settle_many([each.pk for each in together], now=now) == {}


def _burns(organization):
    burns = Burn.objects.filter(organization=organization).order_by("id")
    return list(burns.values_list("grant__reference", "component", "micros"))


def test_i04_the_limit_is_of_all_together_and_what_is_left_comes_next(with_calls, now):
    both = [with_calls("acme", 6).pk, with_calls("other", 6).pk]
    assert settlement.settle_many(both, now=now, limit=8).total() == 8
    assert settlement.settle_many(both, now=now, limit=8).total() == 4
    assert [list(verification.verify(each)) for each in both] == [[], []]


def test_who_is_frozen_or_has_no_books_is_left_out_of_many(with_calls, now, make_organization):
    frozen, bookless, good = with_calls("frozen", 2), make_organization("bookless"), with_calls("good", 2)
    accounts.freeze(frozen.pk, reason="a difference", now=now)
    assert settlement.settle_many([frozen.pk, bookless.pk, good.pk], now=now) == {good.pk: 2}


def test_i05_expired_credit_is_not_spent(with_calls, now):
    acme = with_calls("acme", 5)
    expires_at = now + timedelta(days=1)
    credits.grant(
        organization=acme, kind=Grant.Kind.WELCOME, micros=10**9, reference="w", now=now, expires_at=expires_at
    )
    settlement.settle_all(acme.pk, now=expires_at)
    assert not Burn.objects.exists()


def test_f45_a_call_belongs_to_the_month_it_began_in_in_the_customers_zone(with_calls, now):
    first_of_november_utc = datetime(2026, 11, 1, 3, 0, tzinfo=UTC)
    acme = with_calls("acme", 1, starts_at=first_of_november_utc, time_zone="America/Los_Angeles")
    settlement.settle_all(acme.pk, now=first_of_november_utc + timedelta(hours=1))
    assert charges_of(acme)[0].billed_month == date(2026, 10, 1)


def test_f47_a_late_call_is_billed_in_the_open_month(with_calls, now):
    acme = with_calls("acme", 1)
    november = datetime(2026, 11, 2, tzinfo=UTC)
    periods.close(acme.pk, date(2026, 10, 1), now=november)
    settlement.settle_all(acme.pk, now=november)
    assert charges_of(acme)[0].billed_month == date(2026, 11, 1)


def test_a_call_from_before_the_account_is_billed_in_its_first_month(with_calls, now):
    acme = with_calls("acme", 1, starts_at=now - timedelta(days=90))
    settlement.settle_all(acme.pk, now=now)
    assert charges_of(acme)[0].billed_month == date(2026, 10, 1)


def test_calls_of_two_months_are_settled_apart(with_calls, now):
    acme = with_calls("acme", 10, starts_at=datetime(2026, 10, 31, 23, 55, tzinfo=UTC))
    assert settlement.settle_all(acme.pk, now=datetime(2026, 11, 1, 1, tzinfo=UTC)) == 10
    assert list(Settlement.objects.values_list("month", "first_sequence", "last_sequence")) == [
        (date(2026, 10, 1), 1, 5),
        (date(2026, 11, 1), 6, 10),
    ]


def test_a_period_is_not_closed_before_it_ends(with_calls, now):
    acme = with_calls("acme", 1)
    with pytest.raises(periods.PeriodNotOver):
        periods.close(acme.pk, date(2026, 10, 1), now=now)


@pytest.mark.django_db(transaction=True)
def test_i04_settling_from_many_threads_settles_each_charge_once(with_calls, now):
    acme = with_calls("acme", 60)
    gross = gross_of(acme)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=gross // 2, reference="w", now=now)
    start = threading.Barrier(6)

    def work() -> None:
        start.wait()
        try:
            while settlement.settle(acme.pk, now=now, limit=5):
                pass
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [charge.sequence for charge in charges_of(acme)] == list(range(1, 61))
    assert totals.month(acme.pk, date(2026, 10, 1)).accrued_micros == gross - gross // 2
    assert list(verification.verify(acme.pk)) == []


def test_a_falsified_charge_is_named(with_calls, now):
    acme = with_calls("acme", 3)
    settlement.settle_all(acme.pk, now=now)
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE usage_call SET amount_micros = amount_micros + 1 WHERE call_id LIKE '%\\_2'")
        cursor.execute("SET session_replication_role = DEFAULT")
    assert [each.law for each in verification.verify(acme.pk)] == ["I4 a settlement's gross is the sum of its charges"]


def test_f45_after_a_move_westward_the_first_hours_of_the_month_are_billed_in_it(with_calls, now):
    first_of_november_utc = datetime(2026, 11, 1, tzinfo=UTC)
    acme = with_calls("acme", 1, starts_at=first_of_november_utc + timedelta(hours=3))
    organizations.change_time_zone(acme, time_zone="America/Los_Angeles")
    periods.close(acme.pk, date(2026, 10, 1), now=first_of_november_utc + timedelta(hours=4))
    assert settlement.settle_all(acme.pk, now=first_of_november_utc + timedelta(hours=5)) == 1
    assert totals.month(acme.pk, date(2026, 11, 1)).gross_micros > 0


def test_f45_closing_a_month_before_the_last_one_moves_nobody(with_calls, now):
    acme = with_calls("acme", 1)
    november = datetime(2026, 11, 2, tzinfo=UTC)
    periods.close(acme.pk, date(2026, 10, 1), now=november)
    organizations.change_time_zone(acme, time_zone="America/Los_Angeles")
    periods.close(acme.pk, date(2026, 10, 1), now=november)
    periods.close(acme.pk, date(2026, 9, 1), now=november)
    acme.refresh_from_db()
    assert acme.time_zone == "UTC"
