"""The machine runs, and finds what is broken on purpose."""

import logging
from collections.abc import Callable, Iterator
from datetime import date, timedelta

import pytest
from django.db import IntegrityError, connection
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from billing_portal.ledger import credits, periods
from tests.ledger.machine import START, Machine, price_book
from usage import partitions, prices


@pytest.fixture
def run(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Return what runs the machine for some steps, and returns how many it took."""
    prices.load(price_book(), now=START)
    partitions.ensure({date(2026 + number // 12, number % 12 + 1, 1) for number in range(6, 26)})
    logging.disable(logging.CRITICAL)

    def run(steps: int, *, derandomize: bool = True) -> int:
        Machine.steps = 0
        chosen = settings(
            max_examples=steps // 40,
            stateful_step_count=50,
            derandomize=derandomize,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(Machine, settings=chosen)
        return Machine.steps

    yield run
    logging.disable(logging.NOTSET)


def test_i01_to_i09_whatever_happens_in_whatever_order(run: Callable[..., int]) -> None:
    """The same steps everywhere, so that a change fails where it is made."""
    assert run(2_000) >= 2_000


@pytest.mark.long
@pytest.mark.timeout(9_000)  # a quarter of an hour of work, on a machine that may do much else
def test_i01_to_i09_on_many_more_steps_and_others_each_time(run: Callable[..., int]) -> None:
    assert run(50_000, derandomize=False) >= 50_000


# ── The machine can fail: each of these breaks one law, and it is found ───────────────────────────────────────────────


def expired_credit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = credits.spendable
    monkeypatch.setattr(credits, "spendable", lambda *of, now: honest(*of, now=START - timedelta(days=99)))


def last_grant_first(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = credits.spendable
    monkeypatch.setattr(credits, "spendable", lambda *of, now: honest(*of, now=now).reverse())


def by_age_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = credits.spendable
    monkeypatch.setattr(credits, "spendable", lambda *of, now: honest(*of, now=now).order_by("created_at", "id"))


def into_closed_months(monkeypatch: pytest.MonkeyPatch) -> None:
    with_closed = periods._OF_INSTANTS.replace("closed_at IS NOT NULL", "false")
    assert with_closed != periods._OF_INSTANTS
    monkeypatch.setattr(periods, "_OF_INSTANTS", with_closed)


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
        pytest.param(expired_credit_too, id="I5 expired credit is spent"),
        pytest.param(last_grant_first, id="I5 the last grant is burnt first"),
        pytest.param(by_age_alone, id="I5 priority and expiry count for nothing"),
        pytest.param(into_closed_months, id="I12 a closed month accepts charges"),
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
            in_the_database("ledger_reservation", "NEW.amount_micros = NEW.amount_micros - 1"),
            id="I3 a reservation holds a micro less",
        ),
        pytest.param(
            in_the_database("ledger_monthspend", "NEW.gross_micros = 0"), id="I2 the cap counts nothing as spent"
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
    with pytest.raises((AssertionError, IntegrityError, pytest.fail.Exception)):
        run(5_000)
