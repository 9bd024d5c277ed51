import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_portal.ledger import balances, collections, credits, reversals, settlement, statements, write_offs
from billing_portal.ledger.models import Account, Grant, Transaction

pytestmark = pytest.mark.django_db
OCTOBER = date(2026, 10, 1)


@pytest.fixture(autouse=True)
def _no_settling_behind_the_back(monkeypatch):
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


def account_of(organization):
    return Account.objects.select_related("organization").get(organization=organization)


def give(organization, micros, reference, now, *, kind=Grant.Kind.GOODWILL, **fields):
    return credits.grant(organization=organization, kind=kind, micros=micros, reference=reference, now=now, **fields)


def october(organization, now, zone=UTC):
    return statements.of_month(account_of(organization), OCTOBER, zone=zone, now=now)


def test_the_statement_runs_down_to_nothing_and_says_why(with_calls, now):
    acme = with_calls("acme", 10)
    give(acme, 100_000, "w", now, kind=Grant.Kind.WELCOME)
    settlement.settle_all(acme.pk, now=now)
    owed = balances.balance(account_of(acme), now=now).accrued_micros
    statement = october(acme, now)
    assert [
        (line.label, line.credit_micros, line.credit_after_micros, line.owed_micros, line.owed_after_micros)
        for line in statement.lines
    ] == [("Usage", -100_000, 0, owed, owed), ("Welcome credit", 100_000, 100_000, 0, 0)]
    assert (statement.opening_credit_micros, statement.opening_owed_micros) == (0, 0)
    assert (statement.closing_credit_micros, statement.closing_owed_micros) == (0, owed)


def test_what_staff_did_and_why_is_there_to_read(with_calls, now):
    acme = with_calls("acme", 10)
    settlement.settle_all(acme.pk, now=now)
    grant = give(acme, 9_000_000, "g", now, reason="Outage on 12 October")
    common = {"organization": acme, "now": now}
    taken = reversals.reverse_grant(grant_id=grant.pk, reason="Given twice", reference="r", **common)
    reversals.reverse(transaction_id=taken.pk, reason="It was right", reference="rr", **common)
    forgiven = write_offs.forgive(month=OCTOBER, micros=5, reason="Our mistake", reference="f", **common)
    reversals.reverse(transaction_id=forgiven.pk, reason="Not so", reference="ff", **common)
    collections.collect(accrued_micros=7, paid_micros=7, reference="c", **common)
    paid = Transaction.objects.get(reference="c")
    reversals.reverse(transaction_id=paid.pk, reason="Bounced", reference="cc", **common)
    told = [(line.label, line.reason) for line in reversed(october(acme, now).lines)]
    assert told == [
        ("Usage", ""),
        ("Goodwill credit", "Outage on 12 October"),
        ("Goodwill credit taken back", "Given twice"),
        ("Goodwill credit given back", "It was right"),
        ("Forgiven", "Our mistake"),
        ("Forgiven undone", "Not so"),
        ("Payment", ""),
        ("Payment undone", "Bounced"),
    ]


def test_usage_of_a_day_is_one_line_unless_something_else_lies_between(with_calls, now):
    acme = with_calls("acme", 12)
    give(acme, 90_000_000, "g1", now)
    for hours in (1, 2):
        settlement.settle(acme.pk, now=now + timedelta(hours=hours), limit=2)
    give(acme, 1, "g2", now + timedelta(hours=3))
    for hours in (4, 5, 24, 25):
        settlement.settle(acme.pk, now=now + timedelta(hours=hours), limit=2)
    lines = list(reversed(october(acme, now + timedelta(days=3)).lines))
    assert [line.label for line in lines] == ["Goodwill credit", "Usage", "Goodwill credit", "Usage", "Usage"]
    for before, line in itertools.pairwise(lines):
        assert before.credit_after_micros + line.credit_micros == line.credit_after_micros
        assert before.owed_after_micros + line.owed_micros == line.owed_after_micros


def test_f45_a_month_begins_at_the_customer_s_midnight(with_calls, now):
    acme = with_calls("acme", 0)
    late = datetime(2026, 11, 1, 3, tzinfo=UTC)  # still October in Los Angeles
    give(acme, 5, "early", now - timedelta(days=20))
    give(acme, 10, "late", late)
    zone = ZoneInfo("America/Los_Angeles")
    assert [line.credit_micros for line in october(acme, late, zone).lines] == [10]
    assert october(acme, late, zone).opening_credit_micros == 5
    assert october(acme, late, zone).closing_credit_micros == 15
    assert october(acme, late).closing_credit_micros == 5
    november = statements.of_month(account_of(acme), date(2026, 11, 1), zone=UTC, now=late)
    assert [line.credit_micros for line in november.lines] == [10]


def test_f45_the_instant_at_which_a_month_begins_is_in_it_and_the_one_at_which_it_ends_is_not(with_calls, now):
    acme = with_calls("acme", 0)
    begins, ends = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    first, last = give(acme, 5, "first", begins), give(acme, 7, "last", ends)
    statement = october(acme, ends)
    [line] = statement.lines
    assert (line.occurred_at, line.kind, line.grant) == (begins, "grant", first)
    assert line.transaction == Transaction.objects.get(reference="grant:first")
    assert (statement.month, statement.closing_credit_micros) == (OCTOBER, 5)
    assert october(acme, ends - timedelta(microseconds=1)).closing_credit_micros == 12  # of what is booked ahead, too
    november = statements.of_month(account_of(acme), date(2026, 11, 1), zone=UTC, now=ends)
    assert (november.lines[0].grant, november.opening_credit_micros) == (last, 5)


def test_of_one_instant_what_was_booked_last_stands_first(with_calls, now):
    acme = with_calls("acme", 0)
    for micros in (3, 1, 2):
        give(acme, micros, f"g{micros}", now)
    assert [(line.credit_micros, line.credit_after_micros) for line in october(acme, now).lines] == [
        (2, 6),
        (1, 4),
        (3, 3),
    ]


def test_f45_usage_is_told_by_the_day_of_the_zone_at_its_last_instant(with_calls, now):
    acme = with_calls("acme", 6)
    evening, night = datetime(2026, 10, 20, 23, 30, tzinfo=UTC), datetime(2026, 10, 21, 0, 30, tzinfo=UTC)
    for instant in (evening, night):
        settlement.settle(acme.pk, now=instant, limit=3)
    later = now + timedelta(days=10)
    assert [(line.label, line.occurred_at) for line in october(acme, later).lines] == [
        ("Usage", night),
        ("Usage", evening),
    ]
    zone = ZoneInfo("America/Los_Angeles")
    [line] = october(acme, later, zone).lines
    assert (line.occurred_at, line.transaction, line.grant) == (night, None, None)
    assert (line.is_by_staff, line.reason) == (False, "")
    assert line.owed_micros == october(acme, later).closing_owed_micros > 0


def test_what_staff_did_is_marked_whether_it_moved_credit_or_debt(with_calls, now):
    acme = with_calls("acme", 10)
    settlement.settle_all(acme.pk, now=now)
    give(acme, 5, "staff:1", now)
    give(acme, 6, "welcome:1", now)
    common = {"organization": acme, "now": now, "month": OCTOBER, "micros": 1, "reason": "Outage"}
    write_offs.forgive(reference="staff:2", **common)
    write_offs.forgive(reference="f", **common)
    assert [line.is_by_staff for line in reversed(october(acme, now).lines)] == [False, True, False, True, False]


def test_a_month_has_debt_where_any_was_owed_before_in_or_after_it(with_calls, now):
    acme = with_calls("acme", 3)
    give(acme, 5, "g", now)
    assert not october(acme, now).has_debt
    settlement.settle_all(acme.pk, now=now)
    statement = october(acme, now)
    assert statement.has_debt
    account, following = account_of(acme), date(2026, 11, 1)
    november = datetime(2026, 11, 5, tzinfo=UTC)
    assert statements.of_month(account, following, zone=UTC, now=november).has_debt  # without a line
    owed = balances.balance(account, now=now).accrued_micros
    collections.collect(organization=acme, accrued_micros=owed, paid_micros=owed, reference="c", now=november)
    assert statements.of_month(account, following, zone=UTC, now=november).has_debt
    assert not statements.of_month(account, date(2026, 12, 1), zone=UTC, now=november).has_debt
    assert october(acme, november).has_debt
    line = replace(statement.lines[0], owed_micros=0)
    settled = replace(statement, opening_owed_micros=0, closing_owed_micros=0, lines=[line])
    assert not settled.has_debt
    assert replace(settled, lines=[replace(line, owed_micros=1)]).has_debt
    assert replace(settled, opening_owed_micros=1).has_debt
    assert replace(settled, closing_owed_micros=1).has_debt


def test_credit_of_each_kind_is_known_at_the_end_of_each_day_of_the_zone(with_calls, now):
    acme = with_calls("acme", 0)
    give(acme, 5, "early", datetime(2026, 10, 1, tzinfo=UTC))
    give(acme, 3, "evening", datetime(2026, 10, 3, 23, tzinfo=UTC), kind=Grant.Kind.PREPAID)
    wrong = give(acme, 2, "wrong", datetime(2026, 10, 4, tzinfo=UTC))
    back = datetime(2026, 10, 5, 12, tzinfo=UTC)
    reversals.reverse_grant(organization=acme, grant_id=wrong.pk, reason="r", reference="r", now=back)
    give(acme, 9, "late", datetime(2026, 10, 9, tzinfo=UTC))
    give(with_calls("other", 0), 1_000, "theirs", datetime(2026, 10, 4, tzinfo=UTC))

    def by_day(zone):
        span = {"starts_on": date(2026, 10, 3), "ends_on": date(2026, 10, 5), "zone": zone}
        found = statements.credit_by_day(account_of(acme), **span)
        return {(day.day, kind): micros for (day, kind), micros in found.items()}

    assert by_day(UTC) == {
        (3, "goodwill"): 5,
        (3, "prepaid"): 3,
        (4, "goodwill"): 7,
        (4, "prepaid"): 3,
        (5, "goodwill"): 5,
        (5, "prepaid"): 3,
    }
    assert by_day(ZoneInfo("Europe/Berlin")) == {
        (3, "goodwill"): 5,
        (4, "goodwill"): 7,
        (4, "prepaid"): 3,
        (5, "goodwill"): 5,
        (5, "prepaid"): 3,
    }
    with_nothing_after = statements.credit_by_day(
        account_of(acme), starts_on=date(2026, 10, 9), ends_on=date(2026, 10, 10), zone=UTC
    )
    assert with_nothing_after == {
        (date(2026, 10, day), kind): micros for day in (9, 10) for kind, micros in (("goodwill", 14), ("prepaid", 3))
    }


def test_what_usage_took_of_credit_is_counted_from_an_instant_on(with_calls, now):
    acme, other = with_calls("acme", 8), with_calls("other", 2)
    assert statements.spent_since(account_of(acme), now) == 0
    for organization in (acme, other):
        give(organization, 10**9, "g", now)
    wrong = give(acme, 10**6, "wrong", now, kind=Grant.Kind.PREPAID)
    settlement.settle(acme.pk, now=now, limit=4)
    settlement.settle_all(other.pk, now=now)
    first = 10**9 - Grant.objects.get(organization=acme, reference="g").remaining_micros
    later = now + timedelta(hours=1)
    settlement.settle_all(acme.pk, now=later)
    reversals.reverse_grant(organization=acme, grant_id=wrong.pk, reason="r", reference="r", now=later)
    everything = 10**9 - Grant.objects.get(organization=acme, reference="g").remaining_micros
    assert statements.spent_since(account_of(acme), now) == everything > first > 0
    assert statements.spent_since(account_of(acme), later) == everything - first
    assert statements.spent_since(account_of(acme), later + timedelta(microseconds=1)) == 0


def test_what_moved_after_the_month_is_taken_off_credit_and_debt_apart(with_calls, now):
    acme, other = with_calls("acme", 4), with_calls("other", 4)
    november = datetime(2026, 11, 1, tzinfo=UTC)
    for organization in (acme, other):
        settlement.settle_all(organization.pk, now=now)
        give(organization, 9, "g", november)
        assert october(organization, november).closing_credit_micros == 0
        owed = balances.balance(account_of(organization), now=now).accrued_micros
        assert october(organization, november).closing_owed_micros == owed > 0  # only credit has moved since
        collect = {"organization": organization, "accrued_micros": owed - 3, "paid_micros": owed - 3, "now": november}
        collections.collect(reference="c", **collect)
        statement = october(organization, november)
        assert (statement.closing_credit_micros, statement.closing_owed_micros) == (0, owed)
    following = statements.of_month(account_of(acme), date(2026, 11, 1), zone=UTC, now=november)
    assert (following.opening_owed_micros, following.closing_owed_micros, following.closing_credit_micros) == (
        owed,
        3,
        9,
    )
    moved = [(line.credit_micros, line.owed_micros, line.owed_after_micros) for line in following.lines]
    assert moved == [(0, 3 - owed, 3), (9, 0, owed)]
    assert october(acme, november - timedelta(microseconds=1)).closing_owed_micros == 3  # the month goes on


def test_what_moved_only_debt_after_the_month_leaves_its_credit(with_calls, now):
    acme = with_calls("acme", 4)
    settlement.settle_all(acme.pk, now=now)
    owed = balances.balance(account_of(acme), now=now).accrued_micros
    give(acme, 9, "g", now)
    november = datetime(2026, 11, 1, tzinfo=UTC)
    collections.collect(organization=acme, accrued_micros=owed, paid_micros=owed, reference="c", now=november)
    before = october(acme, november)
    assert (before.closing_credit_micros, before.closing_owed_micros) == (9, owed)


@pytest.mark.parametrize(
    ("kind", "credit_micros", "label"),
    [
        ("grant", 5, "Goodwill credit"),
        ("expire", -5, "Goodwill credit expired"),
        ("reverse", -5, "Goodwill credit taken back"),
        ("set_off", -5, "Goodwill credit set off against this month's usage"),
        ("claim", -1, "Goodwill credit taken back with its payment"),
        ("claim", 0, "Goodwill credit taken back with its payment"),
        ("claim", 1, "Goodwill credit given back"),
        ("collect", None, "Payment"),
        ("write_off", None, "Forgiven"),
        ("reverse", None, "Reversal"),
        ("credit_note", None, "Credit note"),
        ("claim", None, "Payment taken back"),
        ("discount", None, "Discount"),
    ],
)
def test_every_movement_has_its_name(kind, credit_micros, label, now):
    grant = None if credit_micros is None else Grant(kind=Grant.Kind.GOODWILL)
    moved = {"credit_micros": credit_micros or 0, "owed_micros": 0, "credit_after_micros": 0, "owed_after_micros": 0}
    line = statements.StatementLine(
        occurred_at=now, kind=Transaction.Kind(kind), transaction=Transaction(kind=kind), grant=grant, **moved
    )
    assert line.label == label


def test_a_grant_s_reason_is_told_where_it_was_given_and_not_where_it_expired(with_calls, now):
    acme = with_calls("acme", 0)
    give(acme, 9, "g", now, reason="Outage", expires_at=now + timedelta(days=1))
    credits.expire(acme.pk, now=now + timedelta(days=1))
    told = [(line.label, line.reason) for line in october(acme, now + timedelta(days=2)).lines]
    assert told == [("Goodwill credit expired", ""), ("Goodwill credit", "Outage")]


def test_a_long_statement_takes_no_more_queries_than_a_short_one(with_calls, now, django_assert_num_queries):
    acme = with_calls("acme", 3)
    settlement.settle_all(acme.pk, now=now)
    for number in range(4):
        undone = {"organization": acme, "reason": "r", "now": now}
        forgiven = write_offs.forgive(month=OCTOBER, micros=9, reference=f"f{number}", **undone)
        reversals.reverse(transaction_id=forgiven.pk, reference=f"ff{number}", **undone)
        wrong = give(acme, 9, f"g{number}", now)
        taken = {"organization": acme, "reason": "r", "now": now}
        back = reversals.reverse_grant(grant_id=wrong.pk, reference=f"r{number}", **taken)
        reversals.reverse(transaction_id=back.pk, reference=f"rr{number}", **taken)
    account = account_of(acme)
    with django_assert_num_queries(7):
        lines = statements.of_month(account, OCTOBER, zone=UTC, now=now).lines
        assert len({(line.label, line.reason) for line in lines}) == 6


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 90), st.sampled_from(Grant.Kind.values)), max_size=12))
def test_i02_months_follow_on_from_one_another_and_days_agree_with_them(acme_with_books, now, gifts):
    acme = acme_with_books(gifts)
    account, later = account_of(acme), now + timedelta(days=100)
    months = [date(2026, 10, 1), date(2026, 11, 1), date(2026, 12, 1), date(2027, 1, 1)]
    read = [statements.of_month(account, month, zone=UTC, now=later) for month in months]
    for earlier, following in itertools.pairwise(read):
        assert earlier.closing_credit_micros == following.opening_credit_micros
    for statement in read:
        moved = sum(line.credit_micros for line in statement.lines)
        assert statement.opening_credit_micros + moved == statement.closing_credit_micros
    last_days = [date(2026, 10, 31), date(2026, 11, 30), date(2026, 12, 31), date(2027, 1, 31)]
    by_day = statements.credit_by_day(account, starts_on=date(2026, 10, 1), ends_on=date(2027, 1, 31), zone=UTC)
    for statement, day in zip(read, last_days, strict=True):
        assert statement.closing_credit_micros == sum(micros for (on, _), micros in by_day.items() if on == day)


@pytest.fixture
def acme_with_books(make_organization, now):
    made = iter(range(10**6))

    def make(gifts):
        acme = make_organization(f"acme-{next(made)}")
        Account.objects.create(organization=acme, currency="USD", arrears_limit_micros=0, opened_at=now)
        for number, (micros, days, kind) in enumerate(gifts):
            at = now + timedelta(days=days)
            grant = give(acme, micros, f"g{number}", at, kind=Grant.Kind(kind))
            if micros % 3 == 0:
                reversals.reverse_grant(
                    organization=acme, grant_id=grant.pk, reason="r", reference=f"r{number}", now=at + timedelta(days=7)
                )
        return acme

    return make
