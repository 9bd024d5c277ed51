"""F37, F38: what a payment bought, and what it paid, follow from where the payment stands, however that is told."""

from datetime import timedelta

import pytest

from billing_portal.ledger import accounts, claims, credits, journal
from billing_portal.ledger.journal import Book, Side
from billing_portal.ledger.models import Account, Entry, Grant, Transaction

pytestmark = pytest.mark.django_db
PAID = 1_000


@pytest.fixture
def books(acme, now):
    return accounts.open(organization=acme, now=now)


@pytest.fixture
def grant(acme, books, now):
    return credits.grant(organization=acme, kind=Grant.Kind.PREPAID, micros=PAID, reference="g", now=now)


def spend(books, grant, micros, now):
    sides = [Side(Book.CREDIT, -micros, grant), Side(Book.USAGE, micros)]
    journal.post(books, kind=Transaction.Kind.SETTLE, reference="spent", sides=sides, now=now)
    grant.remaining_micros -= micros
    grant.save(update_fields=["remaining_micros"])


def claim(grant, claimed, held=0, *, now, **changed):
    what = {"organization": grant.organization, "subject": "pi_1", "reason": "Refunded to your card", **changed}
    return claims.claim_credit(grant_id=grant.pk, claimed_micros=claimed, held_micros=held, now=now, **what)


def stands(grant):
    """Return what is left of the grant, and what is owed."""
    grant.refresh_from_db()
    return grant.remaining_micros, Account.objects.get(organization=grant.organization).accrued_micros


def entries(posted):
    return set(posted.entries.values_list("book", "grant_id", "micros"))


def test_f38_what_is_left_goes_first_and_what_was_spent_is_owed(books, grant, now):
    spend(books, grant, 700, now)
    later = now + timedelta(hours=1)
    posted = claim(grant, 500, now=later)
    posted.refresh_from_db()
    assert (posted.kind, posted.reference, posted.reason) == ("claim", "claim:pi_1:1", "Refunded to your card")
    assert posted.occurred_at == later
    assert entries(posted) == {
        ("credit", grant.pk, -300),
        ("reversed", None, 300),
        ("receivable", None, -200),
        ("claimed", None, 200),
    }
    assert stands(grant) == (0, 200)
    assert claims.owed(books, "pi_1") == 200
    assert claims.owed(books, "pi_") == 0


@pytest.mark.parametrize(
    ("spent", "told"),
    [
        # (claimed, held) and then (left, owed), one after the other
        (0, [((400, 0), (600, 0)), ((400, 400), (600, 0)), ((400, 700), (300, 0)), ((700, 0), (300, 0))]),
        (0, [((0, 400), (600, 0)), ((0, 0), (1_000, 0))]),
        (0, [((5_000, 0), (0, 0)), ((0, 5_000), (0, 0)), ((0, 1), (999, 0)), ((1, 0), (999, 0))]),
        (
            700,
            [((0, 500), (0, 0)), ((0, 900), (0, 0)), ((500, 500), (0, 200)), ((301, 500), (0, 1)), ((0, 0), (300, 0))],
        ),
        (700, [((1_000, 0), (0, 700)), ((1_200, 0), (0, 700)), ((999, 0), (0, 699)), ((300, 0), (0, 0))]),
        (1_000, [((0, 1_000), (0, 0)), ((1, 0), (0, 1)), ((0, 0), (0, 0))]),
    ],
)
def test_f37_f38_credit_and_debt_follow_from_where_the_payment_stands(spent, told, books, grant, now):
    if spent:
        spend(books, grant, spent, now)
    for (claimed, held), expected in told:
        claim(grant, claimed, held, now=now)
        assert stands(grant) == expected
        assert claim(grant, claimed, held, now=now) is None
    numbers = Transaction.objects.filter(kind="claim").order_by("id").values_list("reference", flat=True)
    assert list(numbers) == [f"claim:pi_1:{number}" for number in range(1, len(numbers) + 1)]


def test_f38_payments_of_similar_names_and_other_organizations_are_told_apart(books, grant, other, now):
    accounts.open(organization=other, now=now)
    foreign = credits.grant(organization=other, kind=Grant.Kind.PREPAID, micros=PAID, reference="g", now=now)
    for each, subject in ((grant, "pi_10"), (foreign, "pi_1"), (grant, "pi_1")):
        posted = claim(each, 400, now=now, subject=subject)
        assert posted.reference == f"claim:{subject}:1"
    assert (stands(grant), stands(foreign)) == ((200, 0), (600, 0))
    with pytest.raises(Grant.DoesNotExist):
        claim(grant, 500, now=now, organization=other)


def test_only_claims_count_as_claims(books, grant, now):
    sides = [Side(Book.RECEIVABLE, -9), Side(Book.USAGE, 9)]
    journal.post(books, kind=Transaction.Kind.SETTLE, reference="claim:pi_1:9", sides=sides, now=now)
    assert claims.owed(books, "pi_1") == 0
    assert claim(grant, 400, now=now).reference == "claim:pi_1:1"


def owe(organization, owed, uncredited=0, *, now, reason="Charged back"):
    amounts = {"owed_micros": owed, "uncredited_micros": uncredited}
    return claims.claim_debt(organization=organization, subject="in_1", reason=reason, now=now, **amounts)


def test_f37_usage_whose_payment_went_back_is_owed_until_it_is_won(acme, books, now):
    later = now + timedelta(hours=1)
    posted = owe(acme, 500, now=later)
    posted.refresh_from_db()
    assert (posted.kind, posted.reference, posted.reason) == ("claim", "claim:in_1:1", "Charged back")
    assert posted.occurred_at == later
    assert entries(posted) == {("receivable", None, -500), ("payments", None, 500)}
    assert owe(acme, 500, now=later) is None
    assert entries(owe(acme, 499, now=later)) == {("receivable", None, 1), ("payments", None, -1)}
    assert entries(owe(acme, 0, now=later)) == {("receivable", None, 499), ("payments", None, -499)}
    assert claims.owed(books, "in_1") == 0
    assert owe(acme, 0, now=later) is None


def test_f38_what_a_credit_note_was_to_send_back_and_did_not_counts_as_paid_again(acme, books, now):
    assert entries(owe(acme, 0, 300, now=now)) == {("credited", None, 300), ("payments", None, -300)}
    assert owe(acme, 0, 300, now=now) is None
    assert entries(owe(acme, 500, 100, now=now)) == {
        ("receivable", None, -500),
        ("credited", None, -200),
        ("payments", None, 700),
    }
    assert claims.micros_posted(books, "in_1", Book.CREDITED, sign=1) == 100
    assert claims.micros_posted(books, "in_1", Book.CREDITED) == -100
    assert Account.objects.get(organization=acme).accrued_micros == 500


def test_as_much_of_the_reason_is_kept_as_there_is_room_for(acme, grant, now):
    assert claim(grant, 1, now=now, reason="r" * 300).reason == "r" * 200
    assert owe(acme, 1, now=now, reason="r" * 300).reason == "r" * 200


def test_no_money_moves_on_a_frozen_account(acme, grant, now):
    accounts.freeze(acme.pk, reason="A difference", now=now)
    for act in (lambda: claim(grant, 1, now=now), lambda: owe(acme, 1, now=now)):
        with pytest.raises(accounts.AccountFrozen):
            act()
    assert not Entry.objects.filter(transaction__kind="claim").exists()
