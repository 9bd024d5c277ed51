"""Outcomes are numbered after the calls, month by month, and what comes back is credit or a unit, once."""

import tomllib
from datetime import UTC, date, datetime, timedelta

import pytest

from billing_portal.ledger import accounts, credits, outcome_funding, outcome_settlement, periods, settling
from billing_portal.ledger.models import Grant, Settlement
from tests.billing import world
from tests.ledger.test_buckets import (
    PRICE,
    START,
    assert_lawful,
    books,
    bucket,
    charge_of,
    come_back,
    resolve,
)
from tests.usage.outcomes.conftest import DOCUMENT, event, raw
from usage.models import OutcomeCharge
from usage.outcomes import recording, rules

__all__ = ["books"]
pytestmark = pytest.mark.django_db
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


def resolve_at(organization, reference, instant, *, now):
    """Let a conversation be resolved at an instant."""
    hours = (instant - START) / timedelta(hours=1)
    told = [
        event("ai_answered", hours - 1, conversation=reference),
        event("customer_replied", hours, conversation=reference, reply_kind="affirmative"),
    ]
    recording.record([raw(each | {"organization": organization.reference}) for each in told], now=now)


def reversal_of(reference):
    return OutcomeCharge.objects.get(conversation__reference=reference, kind="reversal")


def test_f45_outcomes_of_two_months_are_settled_apart_and_a_months_first_instant_is_its_own(books, now):
    now = NOVEMBER + timedelta(days=3)
    ends = [NOVEMBER - timedelta(hours=2), NOVEMBER - timedelta(hours=1), NOVEMBER, NOVEMBER + timedelta(hours=1)]
    for number, instant in enumerate(ends):
        resolve_at(books, f"c_{number}", instant, now=now)
    assert outcome_settlement.settle(books.pk, now=now) == 2
    assert outcome_settlement.settle_all(books.pk, now=now) == 2
    assert list(Settlement.objects.values_list("source", "month", "first_sequence", "last_sequence")) == [
        ("outcomes", date(2026, 10, 1), 1, 2),
        ("outcomes", date(2026, 11, 1), 3, 4),
    ]
    assert [charge_of(f"c_{number}").billed_month.month for number in range(4)] == [10, 10, 11, 11]
    assert_lawful(books)


def test_f47_what_was_decided_in_a_closed_month_is_billed_in_the_open_one(books):
    now = NOVEMBER + timedelta(days=3)
    resolve_at(books, "late", NOVEMBER - timedelta(hours=2), now=now)
    resolve_at(books, "in time", NOVEMBER + timedelta(hours=2), now=now)
    periods.close(books.pk, date(2026, 10, 1), now=now)
    assert outcome_settlement.settle(books.pk, now=now) == 2
    assert {charge_of(each).billed_month for each in ("late", "in time")} == {date(2026, 11, 1)}


def test_everything_is_settled_however_few_at_a_time_and_counted(books, now, monkeypatch):
    resolve(books, "c_1", "c_2", "c_3", now=now)
    settle = outcome_settlement.settle
    monkeypatch.setattr(
        outcome_settlement, "settle", lambda organization_id, *, now: settle(organization_id, now=now, limit=2)
    )
    assert outcome_settlement.settle_all(books.pk, now=now) == 3
    assert list(Settlement.objects.values_list("first_sequence", "last_sequence")) == [(1, 2), (3, 3)]
    assert [charge_of(f"c_{number}").sequence for number in (1, 2, 3)] == [1, 2, 3]
    assert outcome_settlement.settle_all(books.pk, now=now) == 0


def test_f48_what_is_given_back_names_the_conversation_and_pays_for_what_follows(books, now):
    resolve(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    come_back(books, "c_1", now=now)
    resolve(books, "c_2", now=now)
    later = now + timedelta(hours=1)
    assert outcome_settlement.settle(books.pk, now=later) == 2
    reversal, grant = reversal_of("c_1"), Grant.objects.get()
    assert grant.reference == outcome_settlement.reversal_reference(reversal.pk) == f"outcome-reversal:{reversal.pk}"
    assert (grant.kind, grant.amount_micros, grant.remaining_micros) == ("correction", PRICE, 0)
    assert (grant.reason, grant.created_at) == ("Conversation c_1: resolution taken back", later)
    assert (reversal.sequence, reversal.amount_micros, reversal.bucket_id) == (2, 0, None)
    assert Settlement.objects.get(first_sequence=2).accrued_micros == 0
    assert_lawful(books)


def test_i08_credit_that_comes_back_never_pays_for_what_stands_before_it(books, now):
    resolve(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    resolve(books, "c_2", now=now)
    come_back(books, "c_1", now=now)
    resolve(books, "c_3", now=now)
    assert outcome_settlement.settle(books.pk, now=now) == 1
    assert outcome_settlement.settle(books.pk, now=now) == 2
    assert [each.accrued_micros for each in Settlement.objects.order_by("id")] == [PRICE, PRICE, 0]
    assert_lawful(books)


def test_what_cost_nothing_gives_nothing_back(db, acme, now):
    world.load_prices()
    document = tomllib.loads(DOCUMENT.read_text())
    for each in document["rules"]:
        each["prices"]["resolution"] = "0"
    rules.load(document, now=now)
    accounts.open(organization=acme, now=START)
    resolve(acme, "c_1", now=now)
    assert settling.settle_all(acme.pk, now=now) == 1
    come_back(acme, "c_1", now=now)
    assert settling.settle_all(acme.pk, now=now) == 1
    assert reversal_of("c_1").sequence == 2
    assert not Grant.objects.exists()
    assert outcome_funding.of_charge(charge_of("c_1")) == outcome_funding.OutcomeFunding(None, [], 0)


def test_i16_another_organizations_buckets_and_credit_pay_for_nothing(books, other, now):
    accounts.open(organization=other, now=START)
    bucket(other, 5)
    credits.grant(organization=other, kind="prepaid", micros=9 * PRICE, reference="p", now=now)
    resolve(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    assert (charge_of("c_1").bucket_id, charge_of("c_1").amount_micros) == (None, PRICE)
    assert Settlement.objects.get().accrued_micros == PRICE


def test_at_the_very_end_of_its_term_a_bucket_gets_no_unit_back(books, now):
    held = bucket(books, 1, expires_at=now)
    resolve(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now - timedelta(hours=1))
    assert charge_of("c_1").bucket_id == held.pk
    come_back(books, "c_1", now=now)
    settling.settle_all(books.pk, now=now)
    held.refresh_from_db()
    assert held.remaining_units == 0
    assert Grant.objects.get().amount_micros == 800_000
    assert reversal_of("c_1").bucket_id is None
