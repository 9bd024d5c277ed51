from datetime import date

import pytest

from billing_portal.ledger import accounts, credits, discounts, reversals, settlement, totals, write_offs
from billing_portal.ledger.models import Account, Burn, Grant, SetOff, Settlement, SettlementLine, Transaction
from billing_portal.ledger.totals import Position

pytestmark = pytest.mark.django_db
OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)


@pytest.fixture
def acme(with_calls, now, monkeypatch):
    """Two settlements of October, the second of them beyond two grants; and what others spent and forgave."""
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)
    acme, other = with_calls("acme", 12), with_calls("other", 3)
    for reference, kind, micros in (("w", Grant.Kind.WELCOME, 200_000), ("g", Grant.Kind.GOODWILL, 300_000)):
        credits.grant(organization=acme, kind=kind, micros=micros, reference=reference, now=now)
    settlement.settle(acme.pk, now=now, limit=6)
    settlement.settle_all(acme.pk, now=now)
    settlement.settle_all(other.pk, now=now)
    forgive(other, 7, "o", now)
    return acme


def forgive(organization, micros, reference, now):
    return write_offs.forgive(
        organization=organization, month=OCTOBER, micros=micros, reason="Outage", reference=reference, now=now
    )


def by_kind(found):
    sums = {}
    for (kind, _), micros in found.burnt.items():
        sums[kind] = sums.get(kind, 0) + micros
    return sums


def adds_up(found):
    for component, gross in found.gross.items():
        burnt = sum(micros for (_, name), micros in found.burnt.items() if name == component)
        assert gross == burnt + found.accrued.get(component, 0)
    assert found.gross_micros == found.burnt_micros + found.accrued_micros
    return True


def test_i04_a_month_is_the_sum_of_its_own_settlements_by_kind_and_component(acme, now):
    found = totals.month(acme.pk, OCTOBER)
    assert adds_up(found)
    settlements = Settlement.objects.filter(organization=acme)
    assert settlements.count() == 2
    assert found.gross_micros == sum(each.gross_micros for each in settlements)
    assert found.accrued_micros == sum(each.accrued_micros for each in settlements) > 0
    assert by_kind(found) == {"welcome": 200_000, "goodwill": 300_000}
    assert len(found.gross) > 1
    nothing = totals.month(acme.pk, NOVEMBER)
    assert (nothing.gross, nothing.burnt, nothing.accrued) == ({}, {}, {})


def test_a_component_that_credit_covers_whole_is_absent_from_what_is_accrued(with_calls, now):
    covered = with_calls("covered", 3)
    credits.grant(organization=covered, kind=Grant.Kind.PREPAID, micros=10**9, reference="p", now=now)
    settlement.settle_all(covered.pk, now=now)
    found = totals.month(covered.pk, OCTOBER)
    assert adds_up(found)
    assert (found.accrued, found.burnt_micros) == ({}, found.gross_micros)


def test_what_was_forgiven_counts_as_goodwill_until_it_is_put_back(acme, now):
    before = totals.month(acme.pk, OCTOBER)
    forgiven = [forgive(acme, micros, f"f{micros}", now) for micros in (20_000, 3_000)]
    assert by_kind(totals.month(acme.pk, OCTOBER)) == {"welcome": 200_000, "goodwill": 323_000}
    assert totals.month(acme.pk, OCTOBER).accrued_micros == before.accrued_micros - 23_000
    assert sum(totals.month(acme.pk, OCTOBER).forgiven.values()) == 23_000
    undo = {"organization": acme, "reason": "Not so", "now": now}
    reversals.reverse(transaction_id=forgiven[0].pk, reference="u", **undo)
    after = totals.month(acme.pk, OCTOBER)
    assert adds_up(after)
    assert by_kind(after) == {"welcome": 200_000, "goodwill": 303_000}
    assert totals.month(acme.pk, NOVEMBER).burnt == {}


def test_what_credit_paid_afterwards_counts_beside_what_it_burnt_and_discounts_by_themselves(acme, with_calls, now):
    """A correction that was burnt and one that was set off; of both, and of discounts, others have had theirs too."""
    month = {"month": OCTOBER, "settled_at": now}
    books = []
    for name in ("one", "two"):
        organization = with_calls(name, 0)
        account = Account.objects.get(organization=organization)
        give = {"organization": organization, "now": now, "kind": Grant.Kind.CORRECTION}
        first = credits.grant(micros=40, reference="c1", **give)
        settled = Settlement.objects.create(
            organization=organization,
            first_sequence=1,
            last_sequence=1,
            gross_micros=1_000,
            accrued_micros=960,
            **month,
        )
        line = {"organization": organization, "settlement": settled, "component": "voice"}
        SettlementLine.objects.create(gross_micros=1_000, accrued_micros=960, **line)
        Burn.objects.create(grant=first, micros=40, **line)
        posted = Transaction.objects.filter(organization=organization).first()
        for component, micros in (("voice", 100), ("llm", 5)):
            SetOff.objects.create(
                organization=organization,
                transaction=posted,
                grant=first,
                month=OCTOBER,
                component=component,
                micros=micros,
            )
        discounts.take_off(
            account, OCTOBER, {("ten", "voice"): 86, ("five", "voice"): 4}, terms=[], reason="r", now=now
        )
        books.append((organization, posted))
    one, posted = books[0]
    found = totals.month(one.pk, OCTOBER)
    assert found.burnt == {
        ("correction", "voice"): 140,
        ("correction", "llm"): 5,
        ("discount", "voice"): 90,
    }
    assert found.accrued == {"voice": 960 - 100 - 90, "llm": -5}
    assert found.gross == {"voice": 1_000}
    seen = totals.month(one.pk, OCTOBER, through=Position(1, posted.pk - 1))
    assert set(seen.burnt) == {("correction", "voice")}


def test_what_came_later_than_a_position_is_left_out_at_any_time(acme, now):
    seen = []

    def look():
        last = Transaction.objects.order_by("-id").first().pk
        seen.append((Position(12, last), totals.month(acme.pk, OCTOBER)))

    look()
    forgiven = forgive(acme, 20_000, "f", now)
    look()
    forgive(acme, 3_000, "g", now)
    look()
    reversals.reverse(organization=acme, transaction_id=forgiven.pk, reason="Not so", reference="u", now=now)
    look()
    for position, then in seen:
        assert totals.month(acme.pk, OCTOBER, through=position) == then
    [first, _] = Settlement.objects.filter(organization=acme).order_by("first_sequence")
    halfway = totals.month(acme.pk, OCTOBER, through=Position(first.last_sequence, 0))
    assert (halfway.gross_micros, halfway.accrued_micros) == (first.gross_micros, first.accrued_micros)
    before_it = totals.month(acme.pk, OCTOBER, through=Position(first.last_sequence - 1, 0))
    assert before_it.gross == {}
    assert accounts.open(organization=acme, now=now).last_sequence == 12
