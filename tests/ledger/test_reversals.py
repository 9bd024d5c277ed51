"""Taking back and undoing: by opposite entries, once, with a reason."""

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from billing_portal.ledger import (
    accounts,
    balances,
    collections,
    credits,
    journal,
    periods,
    reversals,
    settlement,
    verification,
    write_offs,
)
from billing_portal.ledger.models import Entry, Grant, Transaction

pytestmark = pytest.mark.django_db


@pytest.fixture
def books(acme, now):
    return accounts.open(organization=acme, now=now)


@pytest.fixture
def grant(acme, books, now):
    return credits.grant(organization=acme, kind=Grant.Kind.GOODWILL, micros=5_000_000, reference="g", now=now)


def take_back(organization, grant, now, *, reference="r1", reason="Given twice"):
    return reversals.reverse_grant(
        organization=organization, grant_id=grant.pk, reason=reason, reference=reference, now=now
    )


def undo(organization, posted, now, *, reference="u1", reason="A mistake"):
    return reversals.reverse(
        organization=organization, transaction_id=posted.pk, reason=reason, reference=reference, now=now
    )


def laws_broken(organization):
    return [str(each) for each in verification.verify(organization.pk)]


def test_i01_what_is_left_of_a_grant_is_taken_back_and_the_grant_stays(acme, books, grant, now):
    posted = take_back(acme, grant, now)
    assert balances.balance(books, now=now).credit_micros == 0
    assert set(posted.entries.values_list("book", "micros", "grant")) == {
        ("credit", -5_000_000, grant.pk),
        ("reversed", 5_000_000, None),
    }
    assert (posted.kind, posted.reference, posted.reason) == ("reverse", "r1", "Given twice")
    assert (posted.occurred_at, posted.reverses) == (now, None)
    assert Grant.objects.get().amount_micros == 5_000_000
    assert laws_broken(acme) == []


def test_what_was_spent_stays_spent(with_calls, now):
    acme = with_calls("acme", 10)
    grant = credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=50_000_000, reference="w", now=now)
    settlement.settle_all(acme.pk, now=now)
    spent = 50_000_000 - Grant.objects.get(pk=grant.pk).remaining_micros
    assert spent > 0
    posted = take_back(acme, grant, now)
    assert posted.entries.get(book=Entry.Book.REVERSED).micros == 50_000_000 - spent
    assert laws_broken(acme) == []


def test_i06_the_same_reference_takes_back_once(acme, grant, now):
    assert take_back(acme, grant, now) == take_back(acme, grant, now)
    assert Transaction.objects.filter(kind="reverse").count() == 1


def test_a_reference_with_other_content_is_refused(acme, grant, now):
    take_back(acme, grant, now)
    another = credits.grant(organization=acme, kind=Grant.Kind.GOODWILL, micros=1, reference="g2", now=now)
    for changed in ({"grant": another}, {"grant": grant, "reason": "Another"}):
        with pytest.raises(journal.ReferenceReused):
            take_back(acme, now=now, **changed)
    with pytest.raises(journal.ReferenceReused) as reused:
        take_back(acme, another, now, reference="grant:g")
    assert reused.value.reference == "grant:g"
    assert reused.value.known == ("grant", "", None, grant.pk)
    assert reused.value.given == ("reverse", "Given twice", None, another.pk)
    assert Grant.objects.get(pk=another.pk).remaining_micros == 1


def test_a_spent_grant_has_nothing_to_take_back(acme, grant, now):
    take_back(acme, grant, now)
    with pytest.raises(reversals.NothingLeft, match=r"^Nothing is left of goodwill credit 'g'.$") as spent:
        take_back(acme, grant, now, reference="r2")
    assert spent.value.grant == grant


def test_the_last_micro_of_a_grant_is_taken_back(acme, books, now):
    last = credits.grant(organization=acme, kind=Grant.Kind.GOODWILL, micros=1, reference="g", now=now)
    assert take_back(acme, last, now).entries.get(book=Entry.Book.REVERSED).micros == 1


def test_i16_another_organization_s_grant_is_missing(other, grant, now):
    accounts.open(organization=other, now=now)
    with pytest.raises(Grant.DoesNotExist):
        take_back(other, grant, now)


def test_a_reversal_is_reversed_once_and_the_credit_is_back(acme, books, grant, now):
    posted, later = take_back(acme, grant, now), now + timedelta(hours=1)
    undone = undo(acme, posted, later)
    assert (undone.kind, undone.reference, undone.reason) == ("reverse", "u1", "A mistake")
    assert (undone.occurred_at, undone.reverses) == (later, posted)
    assert list(undone.entries.order_by("id").values_list("book", "micros", "grant")) == [
        ("credit", 5_000_000, grant.pk),
        ("reversed", -5_000_000, None),
    ]
    assert balances.balance(books, now=now).credit_micros == 5_000_000
    assert undo(acme, posted, now) == undone
    with pytest.raises(reversals.AlreadyReversed, match=r"^r1 is reversed already.$") as again:
        undo(acme, posted, now, reference="u2")
    assert again.value.transaction == posted
    with pytest.raises(journal.ReferenceReused) as reused:
        undo(acme, posted, now, reason="Another")
    assert reused.value.known == ("reverse", "A mistake", posted.pk, grant.pk)
    assert reused.value.given == ("reverse", "Another", posted.pk, grant.pk)
    another = take_back(acme, grant, now, reference="r2")
    with pytest.raises(journal.ReferenceReused):
        undo(acme, another, now)
    assert laws_broken(acme) == []


def test_a_reversal_can_be_reversed_again_and_again(acme, books, grant, now):
    posted = take_back(acme, grant, now)
    for number, left in enumerate((5_000_000, 0, 5_000_000)):
        posted = undo(acme, posted, now, reference=f"u{number}")
        assert balances.balance(books, now=now).credit_micros == left
    assert laws_broken(acme) == []


def test_a_payment_that_bounced_is_owed_again(with_calls, now):
    acme = with_calls("acme", 5)
    settlement.settle_all(acme.pk, now=now)
    account = accounts.open(organization=acme, now=now)
    owed = balances.balance(account, now=now).accrued_micros
    paid = collections.collect(organization=acme, accrued_micros=owed, paid_micros=owed, reference="c", now=now)
    assert balances.balance(account, now=now).accrued_micros == 0
    undo(acme, paid, now)
    assert balances.balance(account, now=now).accrued_micros == owed
    assert laws_broken(acme) == []


def test_i16_another_organization_s_transaction_is_missing(acme, other, grant, now):
    accounts.open(organization=other, now=now)
    posted = take_back(acme, grant, now)
    with pytest.raises(Transaction.DoesNotExist):
        undo(other, posted, now)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("grant", "Credit granted (grant:w) cannot be reversed. Take back what is left of the grant."),
        ("expire", "Credit expired (expire:{grant}) cannot be reversed. Give goodwill credit."),
        ("settle", "Usage (settle:1-3) cannot be reversed. Correct the calls, or give a correction."),
    ],
)
def test_what_has_no_opposite_says_what_to_do_instead(with_calls, now, kind, says):
    acme = with_calls("acme", 3)
    soon = now + timedelta(days=1)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=9, reference="w", now=now, expires_at=soon)
    credits.expire(acme.pk, now=soon)
    settlement.settle_all(acme.pk, now=soon)
    posted = Transaction.objects.get(organization=acme, kind=kind)
    with pytest.raises(reversals.NotReversible) as refused:
        undo(acme, posted, soon)
    assert str(refused.value) == says.format(grant=Grant.objects.get().pk)
    assert refused.value.transaction == posted
    assert not Transaction.objects.filter(kind="reverse").exists()


def test_what_was_forgiven_is_put_back_only_while_its_month_is_open(with_calls, now):
    acme = with_calls("acme", 5)
    settlement.settle_all(acme.pk, now=now)
    october = now.date().replace(day=1)
    given = {"organization": acme, "month": october, "micros": 1000, "reason": "Outage", "now": now}
    first, second = (write_offs.forgive(reference=reference, **given) for reference in ("w1", "w2"))
    undo(acme, first, now)
    november = now + timedelta(days=20)
    periods.close(acme.pk, october, now=november)
    with pytest.raises(reversals.NotReversible, match=r"reversed. Its month is closed, so it stands on the invoice.$"):
        undo(acme, second, november, reference="u2")
    paid = collections.collect(organization=acme, accrued_micros=5, paid_micros=5, reference="c", now=november)
    assert undo(acme, paid, november, reference="u3").reverses == paid  # whatever else was forgiven
    assert laws_broken(acme) == []


def test_a_reversal_without_a_reason_is_refused_by_the_database(acme, grant, now):
    with pytest.raises(IntegrityError, match="transaction_by_a_person_has_a_reason"), transaction.atomic():
        take_back(acme, grant, now, reason="")


@pytest.mark.django_db(transaction=True)
def test_f01_taken_back_from_eight_connections_at_once_it_is_taken_back_once(acme, books, grant, now):
    start, outcomes = threading.Barrier(8), []

    def work(number: int) -> None:
        start.wait()
        try:
            take_back(acme, grant, now, reference=f"r{number % 2}")
            outcomes.append("done")
        except reversals.NothingLeft:
            outcomes.append("nothing left")
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done"] * 4 + ["nothing left"] * 4
    assert Transaction.objects.filter(kind="reverse").count() == 1
    assert laws_broken(acme) == []


def test_a_reversal_whose_credit_was_spent_meanwhile_is_not_reversed(acme, grant, now):
    soon = now + timedelta(days=1)
    Grant.objects.filter(pk=grant.pk).update(expires_at=soon)
    given_back = undo(acme, take_back(acme, grant, now), now)
    assert credits.expire(acme.pk, now=soon) == 1
    with pytest.raises(reversals.NotReversible, match=r"reversed. Its credit was spent or has expired. Take back"):
        undo(acme, given_back, soon, reference="u2")
    assert laws_broken(acme) == []


def test_a_write_off_that_was_put_back_is_made_anew_and_not_by_undoing_twice(with_calls, now):
    acme = with_calls("acme", 5)
    settlement.settle_all(acme.pk, now=now)
    month = now.date().replace(day=1)
    give = {"organization": acme, "month": month, "reason": "Outage", "now": now}
    put_back = undo(acme, write_offs.forgive(**give, micros=1_000, reference="f1"), now)
    with pytest.raises(reversals.NotReversible, match=r"reversed. Forgive it anew.$"):
        undo(acme, put_back, now, reference="u2")
    write_offs.forgive(**give, micros=1_000, reference="f2")
    assert laws_broken(acme) == []
