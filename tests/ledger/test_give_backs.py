"""What corrected calls cost less, given back once: it pays for what the month has accrued, and the rest waits."""

from collections import Counter
from datetime import date, timedelta

import pytest

from billing_portal.ledger import (
    accounts,
    collections,
    credits,
    give_backs,
    periods,
    settlement,
    settlement_rows,
    totals,
    verification,
)
from billing_portal.ledger.allocation import Allocation
from billing_portal.ledger.models import GiveBack, Grant, MonthSpend, SetOff, Settlement, Transaction
from tests.usage.conftest import call_object, raw
from usage import ingestion
from usage.models import CallRevision
from usage.revisions import GivenBack

pytestmark = pytest.mark.django_db
OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
Origin = CallRevision.Origin


@pytest.fixture
def books(acme, now):
    return accounts.open(organization=acme, now=now)


def settle(books, accrued, now, *, month=OCTOBER):
    """Settle three charges that only the card pays for."""
    books.refresh_from_db()
    allocated = Allocation(gross=Counter(accrued), accrued=Counter(accrued))
    funded = settlement_rows.Funded(books, Settlement.Source.CALLS, month, 3, [], allocated)
    settlement_rows.write([funded], now=now)
    return Settlement.objects.get(organization_id=books.organization_id, first_sequence=funded.first_sequence)


def cheaper(components, *, call="c_1", in_month=0, origin=Origin.STAFF, author_id=None, reason="Wrong rate"):
    return GivenBack(call, 3, origin, author_id, reason, components, in_month)


def set_off():
    """Return what was set off, in the order in which it was written."""
    return list(SetOff.objects.order_by("id").values_list("grant__reference", "component", "micros"))


def left():
    return dict(Grant.objects.values_list("reference", "remaining_micros"))


def test_f48_what_a_revision_costs_less_is_granted_and_pays_what_its_month_accrued(acme, books, now):
    settle(books, {"platform": 1}, now)
    settlement, later = settle(books, {"llm": 2}, now), now + timedelta(hours=1)
    give_backs.give(books, settlement, [cheaper({"llm": 5, "voice": 4}, in_month=2)], now=later)
    grant = Grant.objects.get()
    assert (grant.kind, grant.amount_micros, grant.remaining_micros) == ("correction", 9, 6)
    assert (grant.reference, grant.reason) == ("correction:c_1:3", "Call c_1, revision 3 instead of 2: Wrong rate")
    assert (grant.created_at, grant.expires_at) == (later, None)
    kept = GiveBack.objects.get()
    assert (kept.organization, kept.settlement, kept.grant) == (acme, settlement, grant)
    assert (kept.calls, kept.in_month_micros) == (1, 2)
    assert MonthSpend.objects.get().given_back_micros == 2
    posted = Transaction.objects.get(kind="set_off")
    assert (posted.organization, posted.reference, posted.occurred_at) == (acme, "set_off:4-6", later)
    entries = list(posted.entries.order_by("id").values_list("book", "micros", "grant"))
    assert entries == [("credit", -3, grant.pk), ("receivable", 3, None)]
    assert set_off() == [("correction:c_1:3", "llm", 2), ("correction:c_1:3", "platform", 1)]
    rows = SetOff.objects.values_list("organization", "transaction", "grant", "month")
    assert set(rows) == {(acme.pk, posted.pk, grant.pk, OCTOBER)}
    books.refresh_from_db()
    assert books.accrued_micros == 0


def test_f48_a_call_that_is_corrected_lowers_what_its_month_is_judged_by(priced, acme, books, now):
    def told(**fields):
        ingestion.record(
            [raw(call_object(start_timestamp=int(now.timestamp() * 1000), end_timestamp=..., **fields))], now=now
        )
        settlement.settle_all(acme.pk, now=now)
        return MonthSpend.objects.get()

    before = told(duration_ms=197_000)
    after = told(duration_ms=60_000, correction=True, revision=1)
    [given] = GiveBack.objects.all()
    assert (given.settlement.first_sequence, given.settlement.month, given.calls) == (2, OCTOBER, 1)
    assert given.in_month_micros == given.grant.amount_micros == after.given_back_micros > 0
    assert after.gross_micros == before.gross_micros
    assert list(verification.verify(acme.pk)) == []


def test_a_revision_without_a_reason_names_the_call_and_both_revisions():
    assert give_backs.reason_of("c_1", 2, "") == "Call c_1, revision 2 instead of 1"


def test_each_credit_pays_its_own_components_first_and_then_the_others_in_their_order(books, now):
    settlement = settle(books, {"add_on": 4, "llm": 3, "voice": 7}, now)
    given = [
        cheaper({"llm": 6}, call="a"),
        cheaper({"llm": 1, "voice": 5}, call="b"),
        cheaper({"per_call": 9}, call="c"),
    ]
    give_backs.give(books, settlement, given, now=now)
    assert set_off() == [
        ("correction:a:3", "add_on", 1),
        ("correction:a:3", "llm", 3),
        ("correction:a:3", "voice", 2),
        ("correction:b:3", "add_on", 1),
        ("correction:b:3", "voice", 5),
        ("correction:c:3", "add_on", 2),
    ]
    assert left() == {"correction:a:3": 0, "correction:b:3": 0, "correction:c:3": 7}
    [posted] = Transaction.objects.filter(kind="set_off")
    assert sorted(posted.entries.values_list("book", "micros")) == [
        ("credit", -6), ("credit", -6), ("credit", -2), ("receivable", 14),
    ]  # fmt: skip
    assert totals.month(books.organization_id, OCTOBER).accrued == {}


def test_what_a_credit_pays_of_one_component_first_and_later_is_one_row(books, now):
    give_backs.give(books, settle(books, {"llm": 10}, now), [cheaper({"llm": 3, "voice": 4})], now=now)
    assert (set_off(), left()) == ([("correction:c_1:3", "llm", 7)], {"correction:c_1:3": 0})


def test_what_is_paid_or_on_an_invoice_is_not_paid_again(acme, books, now):
    settlement = settle(books, {"llm": 10, "voice": 10}, now)
    periods.of_instant(books, now)
    periods.note_invoiced(acme.pk, OCTOBER, 16)
    give_backs.give(books, settlement, [cheaper({"llm": 3}, call="a"), cheaper({"voice": 3}, call="b")], now=now)
    assert set_off() == [("correction:a:3", "llm", 3), ("correction:b:3", "voice", 1)]
    periods.note_invoiced(acme.pk, OCTOBER, -16)
    collections.collect(organization=acme, accrued_micros=14, paid_micros=14, reference="c", now=now)
    november = settle(books, {"telephony": 0}, now)
    give_backs.give(books, november, [cheaper({"voice": 9}, call="d")], now=now)
    assert set_off()[2:] == [("correction:d:3", "voice", 2)]
    assert left() == {"correction:a:3": 0, "correction:b:3": 2, "correction:d:3": 7}


def test_f48_another_month_s_debt_is_not_lowered_and_nothing_is_posted_for_nothing(books, now):
    settle(books, {"llm": 10}, now)
    settlement = settle(books, {}, now, month=NOVEMBER)
    give_backs.give(books, settlement, [cheaper({"llm": 3})], now=now)
    assert left() == {"correction:c_1:3": 3}
    assert not Transaction.objects.filter(kind="set_off").exists()


def test_the_last_micro_is_set_off(books, now):
    give_backs.give(books, settle(books, {"llm": 1}, now), [cheaper({"llm": 1})], now=now)
    assert (set_off(), left()) == ([("correction:c_1:3", "llm", 1)], {"correction:c_1:3": 0})


def test_what_a_backfill_made_cheaper_is_one_credit_a_backfill_and_settlement(books, now):
    settle(books, {"voice": 2_000}, now)
    settlement, backfill = settle(books, {}, now), {"origin": Origin.BACKFILL, "reason": "New prices"}
    given = [
        cheaper({"llm": 1}, call="a", in_month=1, author_id=8, **backfill),
        cheaper({"llm": 10, "voice": 5}, call="b", in_month=12, author_id=7, **backfill),
        cheaper({"llm": 100}, call="c", in_month=100),
        cheaper({"llm": 1_000}, call="d", in_month=900, author_id=7, **backfill),
    ]
    give_backs.give(books, settlement, given, now=now)
    rows = GiveBack.objects.order_by("id").values_list(
        "grant__reference", "grant__reason", "grant__amount_micros", "calls", "in_month_micros"
    )
    assert list(rows) == [
        ("correction:c:3", "Call c, revision 3 instead of 2: Wrong rate", 100, 1, 100),
        ("backfill:8:4", "1 call priced anew: New prices", 1, 1, 1),
        ("backfill:7:4", "2 calls priced anew: New prices", 1_015, 2, 912),
    ]


def test_what_a_backfill_gave_back_pays_its_own_components_first(books, now):
    settlement, backfill = settle(books, {"llm": 4, "platform": 9, "voice": 3}, now), {"origin": Origin.BACKFILL}
    given = [cheaper({"llm": 3}, author_id=7, **backfill), cheaper({"llm": 3, "voice": 2}, author_id=7, **backfill)]
    give_backs.give(books, settlement, given, now=now)
    assert set_off() == [("backfill:7:1", "llm", 4), ("backfill:7:1", "platform", 2), ("backfill:7:1", "voice", 2)]


def test_what_was_given_back_before_is_spent_like_any_credit_and_not_set_off_again(acme, books, now):
    credits.grant(organization=acme, kind=Grant.Kind.CORRECTION, micros=50, reference="correction:a:3", now=now)
    settlement = settle(books, {"llm": 5}, now)
    give_backs.give(books, settlement, [cheaper({"llm": 3}, call="b")], now=now)
    assert left() == {"correction:a:3": 50, "correction:b:3": 0}
