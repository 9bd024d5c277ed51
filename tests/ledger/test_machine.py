"""The machine runs, and finds what is broken on purpose."""

import logging
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta

import pytest
from django.db import IntegrityError, connection
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from billing_portal.ledger import credits, periods
from billing_portal.ledger.models import Account, Period
from tests.ledger.machine import START, Machine, price_book
from usage import partitions, prices
from usage import periods as months


@pytest.fixture
def run(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Return what runs the machine for some steps, and returns how many it took. Shrinking is left to the long test."""
    prices.load(price_book(), now=START)
    partitions.ensure({date(2026 + number // 12, number % 12 + 1, 1) for number in range(6, 26)})
    logging.disable(logging.CRITICAL)

    def run(steps: int, **options: object) -> int:
        Machine.steps = 0
        chosen = {"phases": [Phase.generate], "report_multiple_bugs": False, **options}
        chosen |= {"max_examples": steps // 40, "stateful_step_count": 50, "deadline": None, "database": None}
        run_state_machine_as_test(Machine, settings=settings(suppress_health_check=list(HealthCheck), **chosen))
        return Machine.steps

    yield run
    logging.disable(logging.NOTSET)


def test_i01_to_i09_whatever_happens_in_whatever_order(run: Callable[..., int]) -> None:
    assert run(5_000) >= 5_000


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_i01_to_i09_whatever_happens_in_whatever_order_for_long(run: Callable[..., int]) -> None:
    assert run(50_000, phases=[Phase.generate, Phase.shrink]) >= 50_000


# ── The machine can fail: each of these breaks one law, and it is found ───────────────────────────────────────────────


def the_last_grant_first(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = credits.spendable
    monkeypatch.setattr(credits, "spendable", lambda account, *, now: honest(account, now=now).reverse())


def expired_credit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = credits.spendable
    monkeypatch.setattr(credits, "spendable", lambda account, *, now: honest(account, now=START - timedelta(days=99)))


def closed_months_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periods, "last_closed", lambda organization_id: None)


def months_by_the_clock_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it once was: after a move westward a month that has ended was found again."""

    def of_instant(account: Account, instant: datetime) -> Period:
        instant = max(instant, account.opened_at)
        closed = periods.last_closed(account.organization_id)
        if closed is not None and instant < closed.ends_at:
            return periods._get_or_open(account.organization, months.next_month(closed.month))
        return periods._get_or_open(account.organization, months.month_of(instant, account.organization.zone))

    monkeypatch.setattr(periods, "of_instant", of_instant)


def in_the_database(table: str, change: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Return a sabotage that falsifies rows of a table as they are written."""

    def sabotage(_: pytest.MonkeyPatch) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                f"CREATE FUNCTION falsify() RETURNS trigger AS $$ BEGIN {change}; RETURN NEW; END $$ LANGUAGE plpgsql"
            )
            cursor.execute(
                f"CREATE TRIGGER falsify BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION falsify()"
            )

    return sabotage


@pytest.fixture
def honest_database(transactional_db: None) -> Iterator[None]:
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION IF EXISTS falsify CASCADE")


@pytest.mark.parametrize(
    "sabotage",
    [
        pytest.param(the_last_grant_first, id="I5 the last grant is burnt first"),
        pytest.param(expired_credit_too, id="I5 expired credit is spent"),
        pytest.param(closed_months_too, id="I4 a late call goes to a closed month"),
        pytest.param(months_by_the_clock_alone, id="I4 a move westward stops settlement"),
        pytest.param(
            in_the_database("ledger_grant", "NEW.remaining_micros = NEW.amount_micros"), id="I2 no remainder is lowered"
        ),
        pytest.param(
            in_the_database("ledger_entry", "IF NEW.book = 'receivable' THEN NEW.micros = NEW.micros - 1; END IF"),
            id="I1 an entry has a micro too many",
        ),
        pytest.param(
            in_the_database("ledger_account", "NEW.last_sequence = NEW.last_sequence + 1"), id="I4 a number is skipped"
        ),
        pytest.param(
            in_the_database("usage_dailyusage", "NEW.micros = NEW.micros + 1"), id="I9 a rollup counts a micro twice"
        ),
    ],
)
def test_a_broken_law_is_found(
    run: Callable[..., int],
    honest_database: None,
    monkeypatch: pytest.MonkeyPatch,
    sabotage: Callable[[pytest.MonkeyPatch], None],
) -> None:
    sabotage(monkeypatch)
    with pytest.raises((AssertionError, IntegrityError)):
        run(5_000)
