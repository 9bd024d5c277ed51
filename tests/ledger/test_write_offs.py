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
    reversals,
    settlement,
    totals,
    verification,
    write_offs,
)
from billing_portal.ledger.models import Grant, Transaction
from usage.models import Component

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
        with pytest.raises(write_offs.MoreThanOwed) as refused:
            forgive(acme, micros, now)
        assert str(refused.value) == f"{everything} micros of 2026-10 can be forgiven, not {micros}."
        assert (refused.value.month, refused.value.owed_micros, refused.value.micros) == (OCTOBER, everything, micros)
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
    with pytest.raises(write_offs.MonthClosed, match=r"^October 2026 is closed, so its invoice stands.$") as closed:
        forgive(acme, 1_000, november)
    assert closed.value.month == OCTOBER
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
    with pytest.raises(write_offs.AlreadyGivenUp, match=r"^in_1 is written off already.$") as given_up:
        write_offs.write_off(reference="b2", now=november, **given)
    assert given_up.value.debt == "in_1"
    with pytest.raises(write_offs.MoreThanOwed) as refused:
        write_offs.write_off(reference="b2", now=november, **{**given, "debt": "in_2"})
    assert (refused.value.month, refused.value.owed_micros) == (OCTOBER, 0)
    assert refused.value.micros == before.accrued_micros
    assert list(verification.verify(acme.pk)) == []


def test_what_is_forgiven_is_posted_and_comes_off_the_components_in_their_order(acme, now):
    before, later = totals.month(acme.pk, OCTOBER).accrued, now + timedelta(hours=1)
    in_order = [component for component in Component.values if before.get(component)]
    first, second = in_order[:2]
    micros = before[first] + 1
    posted = forgive(acme, micros, later)
    posted.refresh_from_db()
    assert (posted.kind, posted.reference, posted.reason) == ("write_off", "w1", "Outage on 12 October")
    assert posted.occurred_at == later
    assert set(posted.entries.values_list("book", "micros")) == {("receivable", micros), ("written_off", -micros)}
    kept = posted.write_off
    assert (kept.month, kept.micros, kept.debt) == (OCTOBER, micros, "")
    assert dict(kept.lines.values_list("component", "micros")) == {first: before[first], second: 1}
    forgive(acme, 1, later, reference="w2")
    assert totals.month(acme.pk, OCTOBER).accrued.get(second, 0) == before[second] - 2


def test_a_reference_says_what_it_names_already(acme, now):
    forgive(acme, 1_000, now)
    with pytest.raises(journal.ReferenceReused) as reused:
        forgive(acme, 1_001, now)
    assert reused.value.reference == "w1"
    assert reused.value.known == ("write_off", (OCTOBER, 1_000, "Outage on 12 October"))
    assert reused.value.given == (OCTOBER, 1_001, "Outage on 12 October")
    with pytest.raises(journal.ReferenceReused):
        forgive(acme, 1_000, now, month=date(2026, 9, 1))
    with pytest.raises(journal.ReferenceReused) as reused:
        forgive(acme, 400_000, now, reference="grant:g")
    assert reused.value.known == ("grant", None)


def test_a_debt_is_written_off_as_it_was_given_to_the_last_micro(acme, other, now):
    november, everything = now + timedelta(days=20), owed(acme, now)
    periods.close(acme.pk, OCTOBER, now=november)
    given = {"organization": acme, "month": OCTOBER, "reason": "Insolvent", "now": november}
    for micros in (0, everything + 1):
        with pytest.raises(write_offs.MoreThanOwed):
            write_offs.write_off(micros=micros, debt="in_1", reference="b1", **given)
    posted = write_offs.write_off(micros=1, debt="in_1", reference="b1", **given)
    posted.refresh_from_db()
    assert (posted.kind, posted.reference, posted.reason) == ("write_off", "b1", "Insolvent")
    assert posted.occurred_at == november
    assert set(posted.entries.values_list("book", "micros")) == {("receivable", 1), ("written_off", -1)}
    kept = posted.write_off
    assert (kept.month, kept.micros, kept.debt, kept.lines.count()) == (OCTOBER, 1, "in_1", 0)
    assert list(write_offs.given_up(acme.pk, "in_1")) == [kept]
    assert not write_offs.given_up(acme.pk, "in_2").exists()
    assert not write_offs.given_up(other.pk, "in_1").exists()
    write_offs.write_off(micros=everything - 1, debt="in_2", reference="b2", **given)
    assert owed(acme, november) == 0
    with pytest.raises(journal.ReferenceReused):
        write_offs.write_off(micros=1, debt="in_1", reference="b1", **{**given, "reason": "Another"})


def test_a_debt_whose_write_off_was_reversed_can_be_written_off_again(acme, now):
    november = now + timedelta(days=20)
    periods.close(acme.pk, OCTOBER, now=november)
    given = {"organization": acme, "month": OCTOBER, "micros": 5, "reason": "Insolvent", "debt": "in_1"}
    first = write_offs.write_off(reference="b1", now=november, **given)
    reversals.reverse(organization=acme, transaction_id=first.pk, reason="Paid", reference="u", now=november)
    assert not write_offs.given_up(acme.pk, "in_1").exists()
    assert write_offs.write_off(reference="b2", now=november, **given) != first


def test_nothing_of_a_month_can_be_forgiven_beyond_what_is_still_owed(acme, now):
    account, everything = accounts.open(organization=acme, now=now), owed(acme, now)
    assert write_offs.forgivable_micros(account, OCTOBER, now=now) == everything
    assert write_offs.forgivable_micros(account, date(2026, 11, 1), now=now) == 0
    paid = {"organization": acme, "accrued_micros": everything + 5, "paid_micros": everything + 5}
    collections.collect(reference="c", now=now, **paid)  # paid ahead: less than nothing is owed
    assert write_offs.forgivable_micros(account, OCTOBER, now=now) == 0
