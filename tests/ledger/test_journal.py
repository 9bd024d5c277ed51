from datetime import timedelta

import pytest

from billing_portal.ledger import accounts, credits, journal
from billing_portal.ledger.journal import Book, Posting, Side
from billing_portal.ledger.models import Account, Entry, Grant, Transaction

pytestmark = pytest.mark.django_db
Kind = Transaction.Kind


@pytest.fixture
def books(acme, now):
    return accounts.open(organization=acme, now=now)


@pytest.fixture
def other_books(other, now):
    return accounts.open(organization=other, now=now)


@pytest.fixture
def grant(acme, books, now):
    return credits.grant(organization=acme, kind=Grant.Kind.GOODWILL, micros=9, reference="g", now=now)


def entries_of(reference):
    entries = Entry.objects.filter(transaction__reference=reference).order_by("id")
    return list(entries.values_list("organization_id", "book", "grant_id", "currency", "micros"))


def test_a_transaction_is_written_as_it_was_given_without_sides_of_zero(books, acme, grant, now):
    sides = [Side(Book.CREDIT, -4, grant), Side(Book.PAYMENTS, 0), Side(Book.BREAKAGE, 4)]
    later = now + timedelta(days=1)
    posted = journal.post(books, kind=Kind.EXPIRE, reference="e", sides=iter(sides), now=later, reason="why")
    posted.refresh_from_db()
    assert (posted.organization, posted.kind, posted.reference, posted.reason) == (acme, "expire", "e", "why")
    assert (posted.occurred_at, posted.reverses) == (later, None)
    assert entries_of("e") == [(acme.pk, "credit", grant.pk, "USD", -4), (acme.pk, "breakage", None, "USD", 4)]


def test_a_reversal_names_what_it_reverses(books, grant, now):
    first = Transaction.objects.get()
    sides = [Side(Book.CREDIT, -9, grant), Side(Book.ISSUED, 9)]
    posted = journal.post(books, kind=Kind.REVERSE, reference="r", sides=sides, now=now, reason="why", reverses=first)
    posted.refresh_from_db()
    assert posted.reverses == first


def test_i01_sides_that_do_not_sum_to_zero_are_refused_by_name(books, grant, now):
    sides = [Side(Book.CREDIT, -4, grant), Side(Book.BREAKAGE, 3)]
    with pytest.raises(journal.Unbalanced, match=r"^e: .*micros=-4.*micros=3"):
        journal.post(books, kind=Kind.EXPIRE, reference="e", sides=sides, now=now)
    with pytest.raises(journal.Unbalanced, match=r"^e: .*micros=-4.*micros=3"):
        journal.post_all([Posting(books, "e", sides)], kind=Kind.EXPIRE, now=now)
    assert not Transaction.objects.filter(reference="e").exists()


def test_a_reference_names_a_transaction_of_its_own_organization(books, other_books, grant):
    assert journal.posted(books, "grant:g") == Transaction.objects.get()
    assert journal.posted(books, "g") is None
    assert journal.posted(other_books, "grant:g") is None


def test_transactions_of_several_organizations_are_written_as_one_of_each(make_organization, books, acme, grant, now):
    tokyo = make_organization("tokyo", currency="JPY")
    abroad = accounts.open(organization=tokyo, now=now)
    later = now + timedelta(days=1)
    here = [Side(Book.CREDIT, -4, grant), Side(Book.RECEIVABLE, 0), Side(Book.USAGE, 4)]
    there = [Side(Book.RECEIVABLE, -7), Side(Book.USAGE, 7)]
    journal.post_all([Posting(books, "a", here), Posting(abroad, "b", there)], kind=Kind.SETTLE, now=later)
    assert entries_of("a") == [(acme.pk, "credit", grant.pk, "USD", -4), (acme.pk, "usage", None, "USD", 4)]
    assert entries_of("b") == [(tokyo.pk, "receivable", None, "JPY", -7), (tokyo.pk, "usage", None, "JPY", 7)]
    written = Transaction.objects.filter(reference__in=["a", "b"]).order_by("reference")
    assert list(written.values_list("organization_id", "kind", "reason", "occurred_at", "reverses_id")) == [
        (acme.pk, "settle", "", later, None),
        (tokyo.pk, "settle", "", later, None),
    ]
    assert Account.objects.get(organization=tokyo).accrued_micros == 7


def test_a_reused_reference_says_what_it_names_and_what_was_given():
    reused = journal.ReferenceReused("r", ("grant", 1), ("grant", 2))
    assert str(reused) == "The reference 'r' already names ('grant', 1), not ('grant', 2)."
    assert (reused.reference, reused.known, reused.given) == ("r", ("grant", 1), ("grant", 2))
