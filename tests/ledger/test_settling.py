"""Whatever waits is settled, calls and outcomes alike, until nothing does."""

from datetime import UTC, datetime

import pytest

from billing_portal.ledger import settling
from billing_portal.ledger.models import Settlement
from tests.billing import world
from tests.ledger.test_buckets import START, books, charge_of, resolve
from tests.usage.outcomes.conftest import event, raw
from usage.outcomes import recording

__all__ = ["books"]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_settling_behind_the_back(monkeypatch):
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


def test_calls_and_outcomes_are_settled_and_counted_together(books, now):
    world.record_calls(books, 3, starts_at=START, now=now)
    resolve(books, "c_1", "c_2", now=now)
    assert settling.settle_all(books.pk, now=now) == 5
    assert set(Settlement.objects.values_list("source", "first_sequence", "last_sequence", "settled_at")) == {
        ("calls", 1, 3, now),
        ("outcomes", 4, 5, now),
    }
    assert settling.settle_all(books.pk, now=now) == 0


def test_an_outcome_that_became_final_meanwhile_is_charged_and_settled(books, now):
    told = event("ai_answered", conversation="c_1") | {"organization": books.reference}
    recording.record([raw(told)], now=START)  # a day's silence is its resolution
    assert settling.settle_all(books.pk, now=START) == 0
    assert settling.settle_all(books.pk, now=now) == 1
    assert charge_of("c_1").sequence == 1


def test_calls_of_several_organizations_are_settled_month_by_month_until_none_waits(with_calls):
    midnight = datetime(2026, 10, 31, 23, 57, tzinfo=UTC)
    one, two = with_calls("one", 5, starts_at=midnight), with_calls("two", 4, starts_at=midnight)
    now = datetime(2026, 11, 2, tzinfo=UTC)
    assert settling.settle_calls([one.pk, two.pk], now=now) == {one.pk: 5, two.pk: 4}
    assert set(Settlement.objects.values_list("organization", "last_sequence", "settled_at")) == {
        (one.pk, 3, now),
        (one.pk, 5, now),
        (two.pk, 3, now),
        (two.pk, 4, now),
    }
    assert settling.settle_calls([one.pk, two.pk], now=now) == {}


def test_who_waits_is_found_by_calls_and_by_outcomes_up_to_a_number_of_each(books, other, with_calls, now):
    assert settling.organizations(limit=5) == settling.with_outcomes(limit=5) == set()
    callers = [with_calls("one", 1).pk, with_calls("two", 1).pk]
    resolve(books, "c_1", now=now)
    resolve(other, "c_1", now=now)
    assert settling.with_outcomes(limit=5) == {books.pk, other.pk}
    assert settling.organizations(limit=5) == {books.pk, other.pk, *callers}
    assert len(settling.organizations(limit=1)) == 2
    assert settling.with_outcomes(limit=0) == set()
