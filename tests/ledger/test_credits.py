from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

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
    assert balances.balance(books, now=now) == balances.Balance(5_000_000, accrued_micros=0, currency="USD")
    assert list(verification.verify(acme.pk)) == []


def test_i06_the_same_reference_grants_once(acme, books, now):
    assert give(acme, now) == give(acme, now)
    assert Grant.objects.count() == 1
    assert Transaction.objects.count() == 1


def test_a_reference_with_another_amount_is_refused_and_changes_nothing(acme, books, now):
    give(acme, now)
    with pytest.raises(journal.ReferenceReused) as reused:
        give(acme, now, micros=6_000_000)
    known, given = ("goodwill", 5_000_000), ("goodwill", 6_000_000)
    assert (reused.value.reference, reused.value.known, reused.value.given) == ("r1", known, given)
    with pytest.raises(journal.ReferenceReused):
        give(acme, now, kind=Grant.Kind.PREPAID)
    assert balances.balance(books, now=now).credit_micros == 5_000_000


@pytest.mark.parametrize("micros", [0, -1])
def test_a_grant_of_nothing_or_less_is_refused(acme, books, now, micros):
    with pytest.raises(credits.AmountNotPositive, match=f"^{micros}$"):
        give(acme, now, micros=micros)
    assert not Grant.objects.exists()


def test_a_grant_is_kept_as_it_was_given(acme, books, now):
    expires_at = now + timedelta(days=3)
    grant = give(acme, now, micros=1, kind=Grant.Kind.PREPAID, expires_at=expires_at, reason="Bought")
    grant.refresh_from_db()
    assert (grant.kind, grant.priority, grant.currency) == ("prepaid", Grant.PRIORITIES["prepaid"], "USD")
    assert (grant.amount_micros, grant.remaining_micros) == (1, 1)
    assert (grant.reference, grant.reason, grant.expires_at, grant.created_at) == ("r1", "Bought", expires_at, now)
    posted = Transaction.objects.get()
    assert (posted.kind, posted.reference, posted.occurred_at) == ("grant", "grant:r1", now)
    assert set(posted.entries.values_list("book", "micros", "grant")) == {("issued", -1, None), ("credit", 1, grant.pk)}
    assert give(acme, now, reference="r2").reason == ""


def test_two_organizations_may_use_the_same_reference(acme, other, books, now):
    accounts.open(organization=other, now=now)
    assert give(acme, now) != give(other, now)


def test_an_organization_without_books_is_named(acme, now):
    with pytest.raises(accounts.AccountMissing):
        give(acme, now)


def test_the_welcome_credit_is_given_once(acme, books, now):
    assert credits.grant_welcome(organization=acme, now=now) == credits.grant_welcome(organization=acme, now=now)
    assert balances.balance(books, now=now).credit_micros == 10_000_000
    grant = Grant.objects.get()
    assert (grant.kind, grant.reference, grant.reason) == ("welcome", f"welcome:{acme.pk}", "Welcome")
    assert (grant.expires_at, grant.created_at) == (None, now)


def test_the_welcome_credit_lasts_as_long_as_is_set_and_has_an_amount_by_currency(acme, books, now, settings):
    settings.WELCOME_CREDIT_EXPIRES_AFTER = timedelta(days=30)
    settings.WELCOME_CREDIT_MICROS = {"USD": 7}
    given = credits.grant_welcome(organization=acme, now=now)
    assert (given.amount_micros, given.expires_at) == (7, now + timedelta(days=30))
    settings.WELCOME_CREDIT_MICROS = {"EUR": 7}
    assert credits.grant_welcome(organization=acme, now=now) is None


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


def test_i05_of_two_alike_the_one_given_first_is_burnt_first_and_the_last_micro_is_spendable(acme, other, books, now):
    give(acme, now, reference="later", micros=1)
    give(acme, now - timedelta(days=1), reference="earlier")
    give(acme, now - timedelta(days=1), reference="as early")
    others = accounts.open(organization=other, now=now)
    give(other, now, reference="theirs", kind=Grant.Kind.CORRECTION)
    give(acme, now, reference="spent")
    Grant.objects.filter(reference="spent").update(remaining_micros=0)
    mine = ["earlier", "as early", "later"]
    assert [grant.reference for grant in credits.spendable(books, now=now)] == mine
    assert [grant.reference for grant in credits.spendable(others, books, now=now)] == [*mine, "theirs"]


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


def test_only_what_is_past_its_expiry_expires_to_the_last_micro_and_in_its_own_books(acme, other, books, now):
    accounts.open(organization=other, now=now)
    ends = now + timedelta(days=1)
    give(other, now, expires_at=ends)
    give(acme, now, reference="never")
    give(acme, now, reference="later", expires_at=ends + timedelta(microseconds=1))
    due = [give(acme, now, reference=f"due {micros}", micros=micros, expires_at=ends) for micros in (1, 2)]
    assert credits.expire(acme.pk, now=ends) == 2
    posted = Transaction.objects.filter(kind="expire").order_by("id")
    assert [(each.reference, each.occurred_at) for each in posted] == [(f"expire:{each.pk}", ends) for each in due]
    assert list(Entry.objects.filter(transaction__in=posted, book="credit").order_by("id").values_list("grant")) == [
        (each.pk,) for each in due
    ]
    left = dict(Grant.objects.values_list("reference", "remaining_micros"))
    assert left == {"r1": 5_000_000, "never": 5_000_000, "later": 5_000_000, "due 1": 0, "due 2": 0}


def test_the_days_that_are_left_are_those_of_the_customers_calendar(acme, books, now):
    midnight_in_berlin = datetime(2026, 10, 17, 22, tzinfo=UTC)
    grant = give(acme, now, expires_at=midnight_in_berlin)
    berlin = ZoneInfo("Europe/Berlin")
    assert credits.days_left(grant, zone=berlin, now=now) == 2  # the 17th is the last day, and it is the 15th
    assert credits.days_left(grant, zone=berlin, now=midnight_in_berlin - timedelta(hours=1)) == 0
    assert credits.days_left(grant, zone=ZoneInfo("Asia/Tokyo"), now=now) == 3
    assert credits.days_left(grant, zone=berlin, now=midnight_in_berlin - timedelta(days=2)) == 1
    grant.expires_at += timedelta(microseconds=1)
    assert credits.days_left(grant, zone=berlin, now=now) == 3
    assert credits.days_left(give(acme, now, reference="never"), zone=berlin, now=now) is None


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
