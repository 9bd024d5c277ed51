"""Forgiving what is owed: it comes off the month's invoice while the month is open, and is a lost debt after."""

from datetime import date, timedelta

import pytest

from billing_portal.ledger import (
    accounts,
    balances,
    collections,
    credits,
    journal,
    periods,
    settlement,
    totals,
    verification,
    write_offs,
)
from billing_portal.ledger.models import Grant, Transaction

pytestmark = pytest.mark.django_db
OCTOBER = date(2026, 10, 1)


@pytest.fixture
def acme(with_calls, now):
    organization = with_calls("acme", 20)
    credits.grant(organization=organization, kind=Grant.Kind.GOODWILL, micros=400_000, reference="g", now=now)
    settlement.settle_all(organization.pk, now=now)
    return organization


def forgive(organization, micros, now, *, reference="w1", **changed):
    fields = {"month": OCTOBER, "reason": "Outage on 12 October", **changed}
    return write_offs.forgive(organization=organization, micros=micros, reference=reference, now=now, **fields)


def owed(organization, now):
    return balances.balance(accounts.open(organization=organization, now=now), now=now).accrued_micros


def test_i04_what_is_forgiven_is_no_longer_accrued_and_counts_as_goodwill(acme, now):
    before = totals.month(acme.pk, OCTOBER)
    forgive(acme, 300_000, now)
    after = totals.month(acme.pk, OCTOBER)
    assert after.gross == before.gross
    assert after.accrued_micros == before.accrued_micros - 300_000
    assert after.burnt_micros == before.burnt_micros + 300_000
    for component, gross in after.gross.items():
        burnt = sum(micros for (_, name), micros in after.burnt.items() if name == component)
        assert gross == burnt + after.accrued.get(component, 0)
    assert owed(acme, now) == after.accrued_micros
    assert list(verification.verify(acme.pk)) == []


def test_everything_owed_can_be_forgiven_and_not_a_micro_more(acme, now):
    everything = owed(acme, now)
    for micros in (everything + 1, 0, -1):
        with pytest.raises(write_offs.MoreThanOwed):
            forgive(acme, micros, now)
    assert owed(acme, now) == everything
    forgive(acme, everything, now)
    assert owed(acme, now) == 0
    assert totals.month(acme.pk, OCTOBER).accrued == {}
    with pytest.raises(write_offs.MoreThanOwed):
        forgive(acme, 1, now, reference="w2")


def test_what_is_paid_already_cannot_be_forgiven(acme, now):
    everything = owed(acme, now)
    collections.collect(
        organization=acme, accrued_micros=everything - 5, paid_micros=everything - 5, reference="interim", now=now
    )
    with pytest.raises(write_offs.MoreThanOwed):
        forgive(acme, 6, now)
    forgive(acme, 5, now)


def test_i06_the_same_reference_forgives_once(acme, now):
    assert forgive(acme, 1_000, now) == forgive(acme, 1_000, now)
    for changed in ({"micros": 1_001}, {"micros": 1_000, "reason": "Another"}):
        with pytest.raises(journal.ReferenceReused):
            forgive(acme, now=now, **changed)
    assert Transaction.objects.filter(kind="write_off").count() == 1


def test_a_closed_month_is_not_lowered_but_its_debt_is_written_off(acme, now):
    november = now + timedelta(days=20)
    periods.close(acme.pk, OCTOBER, now=november)
    with pytest.raises(write_offs.MonthClosed):
        forgive(acme, 1_000, november)
    before = totals.month(acme.pk, OCTOBER)
    given = {
        "organization": acme,
        "month": OCTOBER,
        "micros": before.accrued_micros,
        "reason": "Insolvent",
        "debt": "in_1",
    }
    first = write_offs.write_off(reference="b1", now=november, **given)
    assert write_offs.write_off(reference="b1", now=november, **given) == first
    assert totals.month(acme.pk, OCTOBER) == before  # its invoice stands
    assert owed(acme, november) == 0
    with pytest.raises(write_offs.AlreadyGivenUp):
        write_offs.write_off(reference="b2", now=november, **given)
    with pytest.raises(write_offs.MoreThanOwed):
        write_offs.write_off(reference="b2", now=november, **{**given, "debt": "in_2"})
    assert list(verification.verify(acme.pk)) == []
