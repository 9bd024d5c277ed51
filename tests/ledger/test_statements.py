import itertools
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
