from datetime import timedelta

import pytest

from billing_portal.ledger import accounts, credit_notes, journal
from billing_portal.ledger.journal import Book, Side
from billing_portal.ledger.models import Account, Transaction

pytestmark = pytest.mark.django_db


@pytest.fixture
def books(acme, now):
    return accounts.open(organization=acme, now=now)


def lower(organization, debt, paid, *, now, reference="cn:in_1:cn_1", **changed):
    what = {"reason": "Outage on 12 October", **changed}
    return credit_notes.lower(
        organization=organization, debt_micros=debt, paid_micros=paid, reference=reference, now=now, **what
    )


def entries(posted):
    return set(posted.entries.values_list("book", "micros"))


def test_f48_a_note_lowers_the_debt_and_what_was_paid(acme, books, now):
    later = now + timedelta(hours=1)
    posted = lower(acme, 300, 200, now=later)
    posted.refresh_from_db()
    assert (posted.kind, posted.reference, posted.reason) == ("credit_note", "cn:in_1:cn_1", "Outage on 12 October")
    assert posted.occurred_at == later
    assert entries(posted) == {("receivable", 300), ("payments", 200), ("credited", -500)}
    assert Account.objects.get().accrued_micros == -300


def test_what_was_billed_by_mistake_leaves_by_the_book_where_it_was_collected(acme, books, now):
    assert entries(lower(acme, 0, 200, now=now, was_misbilled=True)) == {("payments", 200), ("rounding", -200)}


def test_i06_a_note_is_posted_once(acme, books, now):
    assert lower(acme, 300, 0, now=now) == lower(acme, 300, 0, now=now + timedelta(days=1))
    assert Transaction.objects.count() == 1


def test_a_note_that_was_voided_counts_no_more_and_other_bills_never_did(acme, other, books, now):
    accounts.open(organization=other, now=now)
    lower(acme, 300, 200, now=now)
    lower(acme, 30, 20, now=now, reference="cn:in_1:cn_2")
    lower(acme, 7, 7, now=now, reference="cn:in_2:cn_3")
    lower(other, 9, 9, now=now)
    assert credit_notes.lowered(acme.pk, "cn:in_1:") == (330, 220)
    lower(acme, -300, -200, now=now, reference="cn:in_1:cn_1:void")
    assert credit_notes.lowered(acme.pk, "cn:in_1:") == (30, 20)
    assert credit_notes.lowered(acme.pk, "cn:in_4:") == (0, 0)


def test_as_much_of_the_reason_is_kept_as_there_is_room_for(acme, books, now):
    assert lower(acme, 1, 0, now=now, reason="r" * 300).reason == "r" * 200


def test_no_note_is_posted_on_a_frozen_account(acme, books, now):
    accounts.freeze(acme.pk, reason="A difference", now=now)
    with pytest.raises(accounts.AccountFrozen):
        lower(acme, 1, 0, now=now)


def test_only_receivables_and_payments_count(acme, books, now):
    sides = [Side(Book.RECEIVABLE, -4), Side(Book.PAYMENTS, -5), Side(Book.USAGE, 9)]
    journal.post(books, kind=Transaction.Kind.SETTLE, reference="cn:in_1:x", sides=sides, now=now)
    assert credit_notes.lowered(acme.pk, "cn:in_1:") == (-4, -5)
