from datetime import timedelta

import pytest

from billing_portal.ledger import accounts, collections, journal
from billing_portal.ledger.models import Transaction

pytestmark = pytest.mark.django_db


@pytest.fixture
def books(acme, now):
    return accounts.open(organization=acme, now=now)


def collect(organization, now, *, accrued_micros=1_234_567, paid_micros=1_230_000, reference="c"):
    return collections.collect(
        organization=organization,
        accrued_micros=accrued_micros,
        paid_micros=paid_micros,
        reference=reference,
        now=now,
    )


def test_i11_what_was_paid_and_what_was_rounded_are_entries_of_their_own(acme, books, now):
    later = now + timedelta(hours=1)
    posted = collect(acme, later)
    posted.refresh_from_db()
    assert (posted.kind, posted.reference, posted.occurred_at) == ("collect", "c", later)
    assert set(posted.entries.values_list("book", "micros")) == {
        ("receivable", 1_234_567),
        ("payments", -1_230_000),
        ("rounding", -4_567),
    }
    books.refresh_from_db()
    assert books.accrued_micros == -1_234_567


def test_i06_a_payment_is_collected_once_also_where_nothing_was_rounded(acme, books, now):
    for reference, paid in (("c", 1_230_000), ("even", 1_234_567)):
        first = collect(acme, now, paid_micros=paid, reference=reference)
        assert collect(acme, now + timedelta(days=1), paid_micros=paid, reference=reference) == first
    assert Transaction.objects.count() == 2


@pytest.mark.parametrize("changed", [{"accrued_micros": 1_234_568}, {"paid_micros": 1_230_001}])
def test_a_reference_with_other_amounts_is_refused_and_says_so(changed, acme, books, now):
    collect(acme, now)
    with pytest.raises(journal.ReferenceReused) as reused:
        collect(acme, now, **changed)
    assert reused.value.reference == "c"
    assert reused.value.known == {"receivable": 1_234_567, "payments": -1_230_000, "rounding": -4_567}
    assert reused.value.given != reused.value.known
    assert reused.value.given.keys() == reused.value.known.keys()
    assert Transaction.objects.count() == 1


def test_two_organizations_may_use_the_same_reference(acme, other, books, now):
    accounts.open(organization=other, now=now)
    assert collect(acme, now) != collect(other, now)
