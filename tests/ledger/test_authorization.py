from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from accounts import organizations
from billing_portal.ledger import (
    accounts,
    authorization,
    collections,
    credits,
    journal,
    limits,
    reservations,
    settlement,
    standing,
    verification,
)
from billing_portal.ledger.authorization import Reason
from billing_portal.ledger.models import Account, Direction, Entry, Grant, MonthSpend, SpendLimit, Transaction
from tests.billing import world
from usage import rollups

pytestmark = pytest.mark.django_db
INBOUND, OUTBOUND = Direction.INBOUND, Direction.OUTBOUND


def decide(organization, now, *, has_card, **options):
    Account.objects.filter(organization=organization).update(has_card=has_card)
    return authorization.authorize(organization.pk, now=now, **options)


def gross_of(organization):
    return sum(MonthSpend.objects.filter(organization=organization).values_list("gross_micros", flat=True))


def cap(organization, now, micros, **terms):
    return limits.set(
        organization.pk, limits.Terms(cap_micros=micros, **terms), by=None, now=now, even_if_usage_stops=True
    )


def test_credit_is_enough_without_a_card(acme, now):
    accounts.open(organization=acme, now=now)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=5, reference="w", now=now)
    decision = decide(acme, now, has_card=False)
    assert (decision.allowed, decision.available_micros, decision.reason) == (True, 5, None)


def test_without_credit_and_card_usage_stops_with_the_reason(acme, now):
    accounts.open(organization=acme, now=now)
    decision = decide(acme, now, has_card=False)
    assert (decision.allowed, decision.available_micros, decision.reason) == (False, 0, Reason.CREDIT_USED_UP)


def test_i05_credit_past_its_expiry_carries_nothing(acme, now):
    accounts.open(organization=acme, now=now)
    ends = now + timedelta(hours=1)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=5, reference="w", now=now, expires_at=ends)
    assert decide(acme, ends - timedelta(microseconds=1), has_card=False).allowed
    assert decide(acme, ends, has_card=False).reason == Reason.CREDIT_USED_UP


def test_a_card_carries_up_to_the_arrears_limit(with_calls, now):
    acme = with_calls("acme", 5)
    settlement.settle_all(acme.pk, now=now)
    gross = gross_of(acme)
    assert decide(acme, now, has_card=True).available_micros == 100_000_000 - gross
    Account.objects.filter(organization=acme).update(arrears_limit_micros=gross)
    decision = decide(acme, now, has_card=True)
    assert (decision.allowed, decision.reason) == (False, Reason.ARREARS_LIMIT)


def test_who_owes_too_much_is_known_whatever_else_stops_usage(with_calls, now):
    acme = with_calls("acme", 5)
    settlement.settle_all(acme.pk, now=now)
    gross = gross_of(acme)
    for limit, has_card, too_much in ((gross + 1, True, False), (gross, True, True), (gross, False, False)):
        Account.objects.filter(organization=acme).update(
            arrears_limit_micros=limit, has_card=has_card, unpaid_stops_at=now
        )
        assert authorization.owes_too_much(standing.of(acme.pk, now=now)) is too_much


def test_a_payment_makes_room_again(with_calls, now):
    acme = with_calls("acme", 5)
    settlement.settle_all(acme.pk, now=now)
    gross = gross_of(acme)
    paid = -(-gross // 10_000) * 10_000

    def pay():
        collections.collect(organization=acme, accrued_micros=gross, paid_micros=paid, reference="collect:1", now=now)

    pay()
    pay()
    assert decide(acme, now, has_card=True).available_micros == 100_000_000
    with pytest.raises(journal.ReferenceReused):
        collections.collect(organization=acme, accrued_micros=gross, paid_micros=1, reference="collect:1", now=now)


def test_a_suspended_organization_may_not_spend(acme, now):
    accounts.open(organization=acme, now=now)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=5, reference="w", now=now)
    organizations.suspend(acme)
    assert decide(acme, now, has_card=True).reason == Reason.SUSPENDED


def test_the_first_rule_in_the_order_gives_the_reason(acme, now):
    accounts.open(organization=acme, now=now)
    cap(acme, now, 0)
    assert decide(acme, now, has_card=False).reason == Reason.SPEND_CAP
    accounts.freeze(acme.pk, reason="x", now=now)
    assert decide(acme, now, has_card=False).reason == Reason.FROZEN
    organizations.suspend(acme)
    assert decide(acme, now, has_card=False).reason == Reason.SUSPENDED
    assert [reason for reason, _ in authorization.RULES] == list(Reason)


def test_a_cap_stops_usage_whoever_pays_for_it(with_calls, now):
    acme = with_calls("acme", 5)
    credits.grant(organization=acme, kind=Grant.Kind.PREPAID, micros=10**9, reference="p", now=now)
    settlement.settle_all(acme.pk, now=now)
    gross = gross_of(acme)
    cap(acme, now, gross + 7)
    decision = decide(acme, now, has_card=True)
    assert (decision.allowed, decision.available_micros) == (True, 7)
    cap(acme, now, gross)
    decision = decide(acme, now, has_card=True)
    assert (decision.allowed, decision.available_micros, decision.reason) == (False, 0, Reason.SPEND_CAP)


def test_a_cap_that_only_warns_stops_nothing(acme, now):
    accounts.open(organization=acme, now=now)
    cap(acme, now, 0, mode=SpendLimit.Mode.WARN)
    assert decide(acme, now, has_card=True).available_micros == 100_000_000


def test_outbound_calls_are_refused_first_and_inbound_ones_kept_longest(acme, now):
    accounts.open(organization=acme, now=now)
    world.settled(acme, {"platform": 950_000}, month=date(2026, 10, 1))
    cap(acme, now, 1_000_000, outbound_percent=90, inbound_percent=110)
    assert decide(acme, now, has_card=True, direction=OUTBOUND).reason == Reason.SPEND_CAP
    assert decide(acme, now, has_card=True, direction=INBOUND).available_micros == 150_000
    # Who does not say which direction gets the stricter answer.
    assert decide(acme, now, has_card=True).reason == Reason.SPEND_CAP


def test_f45_the_cap_counts_the_month_of_the_organizations_own_zone(make_organization, now):
    tokyo = make_organization("tokyo", time_zone="Asia/Tokyo")
    accounts.open(organization=tokyo, now=now)
    world.settled(tokyo, {"platform": 5}, month=date(2026, 10, 1))
    world.settled(tokyo, {"platform": 3}, month=date(2026, 11, 1))
    last_of_october = datetime(2026, 10, 31, 14, 59, tzinfo=UTC)
    assert standing.of(tokyo.pk, now=last_of_october).spent_micros == 5
    assert standing.of(tokyo.pk, now=last_of_october + timedelta(minutes=1)).spent_micros == 3
    honolulu = make_organization("honolulu", time_zone="Pacific/Honolulu")
    accounts.open(organization=honolulu, now=now)
    world.settled(honolulu, {"platform": 7}, month=date(2026, 10, 1))
    assert standing.of(honolulu.pk, now=datetime(2026, 11, 1, 9, 59, tzinfo=UTC)).spent_micros == 7
    assert standing.of(honolulu.pk, now=datetime(2026, 11, 1, 10, 0, tzinfo=UTC)).spent_micros == 0


def test_an_authorization_is_one_read(with_calls, now, django_assert_num_queries):
    acme = with_calls("acme", 5)
    settlement.settle_all(acme.pk, now=now)
    cap(acme, now, 10**9)
    with django_assert_num_queries(1):
        authorization.authorize(acme.pk, now=now)
    with django_assert_num_queries(1):
        standing.of_reference("acme", now=now)


def test_unknown_organizations_are_named(acme, now):
    with pytest.raises(accounts.AccountMissing):
        authorization.authorize(acme.pk, now=now)
    with pytest.raises(standing.OrganizationUnknown, match=r"^No organization 'nobody' has books\.$") as unknown:
        standing.of_reference("nobody", now=now)
    assert unknown.value.reference == "nobody"
    with pytest.raises(standing.OrganizationUnknown):
        standing.of_reference("acme", now=now)  # it has no books


def test_everything_a_decision_rests_on_is_read(acme, other, now):
    accounts.open(organization=other, now=now)
    account = accounts.open(organization=acme, now=now)
    found = standing.of(acme.pk, now=now)
    assert (found.organization_id, found.reference, found.status, found.currency) == (acme.pk, "acme", "active", "USD")
    assert (found.is_frozen, found.has_card, found.finishes_live_calls) == (False, False, True)
    assert (found.arrears_limit_micros, found.accrued_micros) == (100_000_000, 0)
    assert (found.credit_micros, found.held_micros, found.spent_micros) == (0, 0, 0)
    assert (found.month, found.cap_micros, found.cap_stops) == (date(2026, 10, 1), None, False)
    assert (found.outbound_percent, found.inbound_percent) == (100, 100)
    assert authorization.cap_of(found, None) is None
    give = {"organization": acme, "kind": Grant.Kind.GOODWILL, "now": now}
    credits.grant(micros=3, reference="never", **give)
    credits.grant(micros=4, reference="later", expires_at=now + timedelta(seconds=1), **give)
    credits.grant(micros=8, reference="now", expires_at=now, **give)
    credits.grant(organization=other, kind=Grant.Kind.GOODWILL, micros=100, reference="o", now=now)
    world.settled(acme, {"platform": 5}, month=date(2026, 10, 1))
    world.settled(acme, {"platform": 9}, month=date(2026, 9, 1))
    sides = [journal.Side(Entry.Book.RECEIVABLE, -14), journal.Side(Entry.Book.USAGE, 14)]
    journal.post(account, kind=Transaction.Kind.SETTLE, reference="s", sides=sides, now=now)
    reservations.reserve(acme.pk, reservations.Wish("r1", 2, 600), now=now)
    reservations.reserve(acme.pk, reservations.Wish("r2", 1, 600), now=now)
    reservations.release(acme.pk, "r2")
    Account.objects.filter(pk=account.pk).update(has_card=True)
    cap(acme, now, 1_000, outbound_percent=90, inbound_percent=110, finishes_live_calls=False)
    accounts.freeze(acme.pk, reason="x", now=now)
    found = standing.of(acme.pk, now=now)
    assert found == standing.of_reference("acme", now=now)
    assert (found.is_frozen, found.has_card, found.finishes_live_calls) == (True, True, False)
    assert (found.credit_micros, found.held_micros, found.spent_micros, found.accrued_micros) == (7, 2, 5, 14)
    assert (found.cap_micros, found.cap_stops, found.outbound_percent, found.inbound_percent) == (1_000, True, 90, 110)
    both = authorization.both_ways(found)
    assert both == {
        "authorization": authorization.decide(found, direction=INBOUND),
        "outbound": authorization.decide(found, direction=OUTBOUND),
    }
    assert (authorization.cap_of(found, INBOUND), authorization.cap_of(found, OUTBOUND)) == (1_100, 900)
    assert authorization.cap_of(found, None) == 900
    free = replace(found, is_frozen=False)
    room = 7 + 100_000_000 - 14 - 2
    assert authorization.decide(replace(free, cap_micros=None)).available_micros == room
    assert authorization.decide(replace(free, accrued_micros=10**12, cap_micros=None)).available_micros == 5
    assert authorization.decide(replace(free, has_card=False)).available_micros == 5
    assert authorization.decide(free, direction=INBOUND, micros=1_093).allowed
    assert not authorization.decide(free, direction=INBOUND, micros=1_094).allowed


def test_i02_the_caches_are_the_sums_they_stand_for(with_calls, now):
    acme = with_calls("acme", 12)
    settlement.settle(acme.pk, now=now, limit=5)
    settlement.settle_all(acme.pk, now=now)
    receivable = Entry.objects.filter(organization=acme, book="receivable").values_list("micros", flat=True)
    assert Account.objects.get(organization=acme).accrued_micros == -sum(receivable) > 0
    month = now.date().replace(day=1)
    spend = MonthSpend.objects.get(organization=acme, month=month)
    assert spend.gross_micros == sum(rollups.component_totals(acme.pk, month).values()) > 0
    assert list(verification.verify(acme.pk)) == []


def test_more_spend_or_more_held_never_leaves_more_room(acme, now):
    accounts.open(organization=acme, now=now)
    cap(acme, now, 1_000)
    found = replace(standing.of(acme.pk, now=now), has_card=True)
    rooms = [
        authorization.decide(replace(found, spent_micros=spent, held_micros=held)).available_micros
        for spent, held in ((0, 0), (1, 0), (1, 1), (999, 0), (999, 1), (5_000, 5_000))
    ]
    assert rooms == [1_000, 999, 998, 1, 0, 0]


def test_people_read_both_ways(acme, now):
    accounts.open(organization=acme, now=now)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=500, reference="w", now=now)
    cap(acme, now, 100, outbound_percent=40, inbound_percent=130)
    both = authorization.both_ways(standing.of(acme.pk, now=now))
    assert {name: found.available_micros for name, found in both.items()} == {"authorization": 130, "outbound": 40}


def test_a_part_of_a_cap_is_whole_micros_rounded_down(acme, now):
    accounts.open(organization=acme, now=now)
    cap(acme, now, 101, outbound_percent=50)
    found = authorization.cap_of(standing.of(acme.pk, now=now), OUTBOUND)
    assert (found, type(found)) == (50, int)


def test_an_organization_without_books_is_named(acme, now):
    with pytest.raises(accounts.AccountMissing, match=f"Organization {acme.pk} has no"):
        standing.of(acme.pk, now=now)


def test_an_invoice_that_is_unpaid_for_too_long_stops_usage_from_its_instant_on(acme, now):
    accounts.open(organization=acme, now=now)
    Account.objects.filter(organization=acme).update(has_card=True, unpaid_stops_at=now)
    before = standing.of(acme.pk, now=now - timedelta(microseconds=1))
    assert (before.is_overdue, before.unpaid_stops_at) == (False, now)
    assert authorization.decide(before).allowed
    decision = authorization.authorize(acme.pk, now=now)
    assert (decision.allowed, decision.reason, decision.standing.is_overdue) == (False, Reason.INVOICE_OVERDUE, True)
    Account.objects.filter(organization=acme).update(unpaid_stops_at=None)
    assert standing.of(acme.pk, now=now).is_overdue is False


def test_a_single_micro_is_enough_to_begin(acme, now):
    accounts.open(organization=acme, now=now)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=1, reference="w", now=now)
    assert authorization.authorize(acme.pk, now=now).allowed
    assert not authorization.decide(standing.of(acme.pk, now=now), micros=2).allowed
