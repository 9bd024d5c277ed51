from collections import Counter
from datetime import date, timedelta

import pytest

from billing_portal.ledger import accounts, discounts
from billing_portal.ledger.models import Account, DiscountLine, DiscountPosting, Transaction

pytestmark = pytest.mark.django_db
OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
TERMS = [("launch", 1_000, None), ("pilot", None, 500)]


@pytest.fixture
def books(acme, now):
    return accounts.open(organization=acme, now=now)


def take_off(books, due, *, now, month=OCTOBER, reason="Launch partner"):
    return discounts.take_off(books, month, due, terms=TERMS, reason=reason, now=now)


def test_what_comes_off_is_posted_with_its_terms_and_lines(acme, books, now):
    later = now + timedelta(hours=1)
    posted = take_off(books, {("pilot", "llm"): 5, ("launch", "voice"): 70, ("launch", "llm"): 0}, now=later)
    posted.refresh_from_db()
    assert (posted.kind, posted.reference, posted.reason) == ("discount", "discount:2026-10:1", "Launch partner")
    assert posted.occurred_at == later
    assert set(posted.entries.values_list("book", "micros")) == {("receivable", 75), ("discounted", -75)}
    posting = posted.discount_posting
    assert (posting.organization, posting.month, posting.terms) == (acme, OCTOBER, [[*each] for each in TERMS])
    lines = [("launch", "voice", 70), ("pilot", "llm", 5)]  # in their order, whatever the caller's was
    assert list(posting.lines.order_by("id").values_list("discount", "component", "micros")) == lines
    assert set(posting.lines.values_list("organization_id", flat=True)) == {acme.pk}
    assert Account.objects.get().accrued_micros == -75


def test_i06_only_what_changed_since_is_posted(books, now):
    first = {("launch", "voice"): 70, ("launch", "llm"): 5}
    take_off(books, first, now=now)
    assert take_off(books, first, now=now) is None
    second = {("launch", "voice"): 60, ("pilot", "llm"): 5}
    changed = take_off(books, second, now=now)
    assert changed.reference == "discount:2026-10:2"
    assert dict(changed.discount_posting.lines.values_list("discount", "micros").filter(component="llm")) == {
        "launch": -5,
        "pilot": 5,
    }
    assert set(changed.entries.values_list("book", "micros")) == {("receivable", -10), ("discounted", 10)}
    assert discounts.taken(books.organization_id, OCTOBER) == Counter(second)
    assert discounts.taken(books.organization_id, OCTOBER, through=changed.pk - 1) == Counter(first)
    assert discounts.taken(books.organization_id, OCTOBER, through=changed.pk) == Counter(second)
    take_off(books, {}, now=now)
    assert discounts.taken(books.organization_id, OCTOBER) == Counter()
    assert list(discounts.taken(books.organization_id, OCTOBER)) == []


def test_a_discount_that_moves_between_components_leaves_the_debt_alone(books, now):
    take_off(books, {("launch", "voice"): 70}, now=now)
    moved = take_off(books, {("launch", "llm"): 70}, now=now)
    assert not moved.entries.exists()
    assert discounts.taken(books.organization_id, OCTOBER) == {("launch", "llm"): 70}


def test_months_and_organizations_have_discounts_of_their_own(other, books, now):
    theirs = accounts.open(organization=other, now=now)
    for account, month, micros in ((books, OCTOBER, 1), (books, NOVEMBER, 2), (theirs, OCTOBER, 3)):
        posted = take_off(account, {("launch", "llm"): micros}, month=month, now=now)
        assert posted.reference == f"discount:{month:%Y-%m}:1"
    assert discounts.taken(books.organization_id, OCTOBER) == {("launch", "llm"): 1}
    assert discounts.taken(books.organization_id, NOVEMBER) == {("launch", "llm"): 2}
    assert discounts.taken(theirs.organization_id, OCTOBER) == {("launch", "llm"): 3}
    assert DiscountPosting.objects.count() == DiscountLine.objects.count() == Transaction.objects.count() == 3


def test_as_much_of_the_reason_is_kept_as_there_is_room_for(books, now):
    assert take_off(books, {("launch", "llm"): 1}, now=now, reason="r" * 300).reason == "r" * 200
