from datetime import timedelta

import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction

from billing_portal.ledger import accounts, balances, credits, journal, verification
from billing_portal.ledger.models import Entry, Grant, Transaction

pytestmark = pytest.mark.django_db


@pytest.fixture
def books(acme, now):
    return accounts.open(organization=acme, now=now)


def give(organization, now, *, micros=5_000_000, reference="r1", kind=Grant.Kind.GOODWILL, **fields):
    return credits.grant(organization=organization, kind=kind, micros=micros, reference=reference, now=now, **fields)


def test_a_grant_raises_the_balance(acme, books, now):
    give(acme, now)
    assert balances.balance(books, now=now).credit_micros == 5_000_000
    assert list(verification.verify(acme.pk)) == []


def test_i06_the_same_reference_grants_once(acme, books, now):
    assert give(acme, now) == give(acme, now)
    assert Grant.objects.count() == 1
    assert Transaction.objects.count() == 1


def test_a_reference_with_another_amount_is_refused_and_changes_nothing(acme, books, now):
    give(acme, now)
    with pytest.raises(journal.ReferenceReused):
        give(acme, now, micros=6_000_000)
    assert balances.balance(books, now=now).credit_micros == 5_000_000


@pytest.mark.parametrize("micros", [0, -1])
def test_a_grant_of_nothing_or_less_is_refused(acme, books, now, micros):
    with pytest.raises(credits.AmountNotPositive):
        give(acme, now, micros=micros)
    assert not Grant.objects.exists()


def test_two_organizations_may_use_the_same_reference(acme, other, books, now):
    accounts.open(organization=other, now=now)
    assert give(acme, now) != give(other, now)


def test_an_organization_without_books_is_named(acme, now):
    with pytest.raises(accounts.AccountMissing):
        give(acme, now)


def test_the_welcome_credit_is_given_once(acme, books, now):
    assert credits.grant_welcome(organization=acme, now=now) == credits.grant_welcome(organization=acme, now=now)
    assert balances.balance(books, now=now).credit_micros == 10_000_000


def test_i05_burn_order_is_priority_expiry_creation_id(acme, books, now):
    def named(reference, kind, days):
        expires_at = now + timedelta(days=days) if days else None
        return give(acme, now, reference=reference, kind=kind, expires_at=expires_at)

    named("prepaid, never", Grant.Kind.PREPAID, None)
    named("prepaid, soon", Grant.Kind.PREPAID, 3)
    named("goodwill", Grant.Kind.GOODWILL, 9)
    named("welcome, a", Grant.Kind.WELCOME, 5)
    named("welcome, b", Grant.Kind.WELCOME, 5)
    named("correction", Grant.Kind.CORRECTION, None)
    order = [grant.reference for grant in credits.spendable(books, now=now)]
    assert order == ["correction", "welcome, a", "welcome, b", "goodwill", "prepaid, soon", "prepaid, never"]


def test_i05_expired_credit_is_not_spendable_at_its_very_instant(acme, books, now):
    give(acme, now, expires_at=now + timedelta(days=1))
    assert balances.balance(books, now=now + timedelta(days=1)).credit_micros == 0
    assert balances.balance(books, now=now + timedelta(hours=23)).credit_micros == 5_000_000


def test_i01_what_expires_becomes_breakage_once(acme, books, now):
    give(acme, now, expires_at=now + timedelta(days=1))
    later = now + timedelta(days=2)
    assert credits.expire(acme.pk, now=later) == 1
    assert credits.expire(acme.pk, now=later) == 0
    assert Entry.objects.get(book=Entry.Book.BREAKAGE).micros == 5_000_000
    assert list(verification.verify(acme.pk)) == []


@pytest.mark.parametrize("statement", ["UPDATE ledger_entry SET micros = micros + 1", "DELETE FROM ledger_entry"])
def test_entries_can_be_neither_edited_nor_deleted(acme, books, now, statement):
    give(acme, now)
    with (
        pytest.raises(ProgrammingError, match="Cannot update or delete"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


@pytest.mark.django_db(transaction=True)
def test_i01_the_database_refuses_a_transaction_that_does_not_sum_to_zero(acme, books, now):
    grant = give(acme, now)
    with pytest.raises(IntegrityError, match="does not sum to zero"), transaction.atomic():
        posted = Transaction.objects.create(organization=acme, kind="grant", reference="forged", occurred_at=now)
        Entry.objects.create(
            organization=acme, transaction=posted, book="credit", grant=grant, currency="USD", micros=1
        )
    assert not Transaction.objects.filter(reference="forged").exists()


def test_i03_the_database_refuses_a_remainder_below_zero(acme, books, now):
    grant = give(acme, now)
    with pytest.raises(IntegrityError, match="grant_remainder_is_within_its_amount"), transaction.atomic():
        Grant.objects.filter(pk=grant.pk).update(remaining_micros=-1)


def test_i02_a_falsified_remainder_is_named(acme, books, now):
    grant = give(acme, now)
    Grant.objects.filter(pk=grant.pk).update(remaining_micros=4_999_999)
    found = [str(discrepancy) for discrepancy in verification.verify(acme.pk)]
    assert (
        f"I2 a grant's remainder is the sum of its entries: grant {grant.pk}: expected 5000000, found 4999999" in found
    )
