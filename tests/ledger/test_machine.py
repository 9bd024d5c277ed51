"""A machine that does anything to the books in any order, beside a model that says what they must say afterwards.

Every step runs the real commands on real PostgreSQL; every example is one transaction, rolled back at its end. A new
command joins with a rule here and its effect in `model.Books`.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Sum
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.pq import TransactionStatus

from accounts import organizations
from accounts.models import Organization
from billing_portal.ledger import (
    accounts,
    balances,
    collections,
    credits,
    journal,
    periods,
    reversals,
    settlement,
    totals,
    verification,
    write_offs,
)
from billing_portal.ledger.models import Account, Entry, Grant, Period, Transaction
from tests.ledger import model
from usage import ingestion, prices, rollups
from usage import periods as months

START = datetime(2026, 10, 15, 9, 30, tzinfo=UTC)
ZONES = ["UTC", "America/Los_Angeles", "Asia/Kolkata", "Pacific/Auckland"]
CENT = 10_000

whose = st.integers(0, 1)
kinds = st.sampled_from(list(Grant.Kind))
amounts = st.integers(1, 400_000)
lifetimes = st.none() | st.integers(1, 60 * 24)  # hours
ages = st.integers(0, 600) | st.integers(0, 50 * 24 * 60)  # minutes
products = st.frozensets(st.sampled_from([product for product, *_ in model.PRICES]))
picks = st.integers(0, 10**6)
calls = st.lists(st.tuples(ages, st.integers(0, 600_000), products), min_size=1, max_size=3)


class Machine(RuleBasedStateMachine):
    """Two organizations, a clock, and the model of both."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.numbers = iter(range(10**6))
        self.organizations: list[Organization] = []
        self.books: list[model.Books] = []
        self.recorded: list[tuple[int, model.Call]] = []
        self.granted: list[tuple[int, dict]] = []
        self.collected: list[tuple[int, dict]] = []
        self.moves: list[tuple[int, model.Move]] = []
        self.touched: set[int] = set()
        self.example = transaction.atomic()
        self.example.__enter__()

    def teardown(self) -> None:
        try:
            if connection.connection.info.transaction_status != TransactionStatus.INERROR:
                self.touched = set(range(len(self.books)))
                self.holds()
        finally:
            transaction.set_rollback(True)
            self.example.__exit__(None, None, None)

    # ── Rules ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    @initialize(zones=st.tuples(st.sampled_from(ZONES), st.sampled_from(ZONES)))
    def open(self, zones: tuple[str, str]) -> None:
        for reference, zone in zip(("acme", "other"), zones, strict=True):
            fields = {"name": reference, "currency": "USD", "time_zone": zone, "created_at": self.now}
            organization = Organization.objects.create(reference=reference, **fields)
            opened_at = self.now - timedelta(days=40)
            accounts.open(organization=organization, now=opened_at)
            self.organizations.append(organization)
            self.books.append(model.Books(opened_at=opened_at, zone=zone))

    @rule(minutes=st.integers(1, 120) | st.integers(60 * 24, 60 * 24 * 20))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(who=whose, hours=st.integers(0, 36))
    def month_ends(self, who: int, hours: int) -> None:
        """Go to the hours in which the zones' months end and begin; some close theirs then."""
        next_month = model.midnight(model.following(self.now.date().replace(day=1)), "UTC")
        self.now = max(self.now, next_month + timedelta(hours=hours - 12))
        self.close_month(who, 1)

    @rule(who=whose, made=calls)
    def record(self, who: int, made: list[tuple[int, int, frozenset[str]]]) -> None:
        recorded = [
            model.Call(self.now - timedelta(minutes=age), next(self.numbers), duration_ms, used)
            for age, duration_ms, used in made
        ]
        assert self.answers(who, recorded) == {ingestion.RECORDED}
        for call in recorded:
            self.books[who].record(call)
            self.recorded.append((who, call))

    @precondition(lambda self: self.recorded)
    @rule(pick=picks, longer_ms=st.sampled_from([0, 0, 1000]))
    def record_again(self, pick: int, longer_ms: int) -> None:
        """I6: the same call again is a duplicate, another under its id a conflict; neither is charged."""
        who, call = self.recorded[pick % len(self.recorded)]
        again = model.Call(call.started_at, call.number, call.duration_ms + longer_ms, call.products)
        assert self.answers(who, [again]) == {ingestion.CONFLICT if longer_ms else ingestion.DUPLICATE}
        self.touched.add(who)

    @rule(who=whose, limit=st.integers(1, 6))
    def settle(self, who: int, limit: int) -> None:
        """I8: pieces of any size; the model knows only what they come to."""
        settled = settlement.settle(self.id_of(who), now=self.now, limit=limit)
        assert settled == self.books[who].settle(limit, self.now)

    @rule(who=whose)
    def settle_all(self, who: int) -> None:
        waited = len(self.books[who].waiting)
        while self.books[who].settle(10_000, self.now):
            pass
        assert settlement.settle_all(self.id_of(who), now=self.now) == waited

    @rule(who=whose, kind=kinds, micros=amounts, hours=lifetimes)
    def grant(self, who: int, kind: Grant.Kind, micros: int, hours: int | None) -> None:
        expires_at = None if hours is None else self.now + timedelta(hours=hours)
        command = {"kind": kind, "micros": micros, "reference": f"g{next(self.numbers)}", "expires_at": expires_at}
        credits.grant(organization=self.organizations[who], now=self.now, **command)
        self.books[who].grant(command["reference"], str(kind), micros, expires_at, self.now)
        self.granted.append((who, command))
        self.touched.add(who)

    @precondition(lambda self: self.granted)
    @rule(pick=picks, more=st.sampled_from([0, 0, 1]))
    def grant_again(self, pick: int, more: int) -> None:
        """I6: a reference names one grant; with another amount under it nothing happens."""
        who, command = self.granted[pick % len(self.granted)]
        again = {**command, "micros": command["micros"] + more}
        self.once(lambda: credits.grant(organization=self.organizations[who], now=self.now, **again), refused=more)
        self.touched.add(who)

    @rule(who=whose, micros=st.integers(-2, 0))
    def grant_nothing(self, who: int, micros: int) -> None:
        with pytest.raises(credits.AmountNotPositive):
            credits.grant(
                organization=self.organizations[who], kind=Grant.Kind.GOODWILL, micros=micros, reference="no",
                now=self.now,
            )  # fmt: skip
        self.touched.add(who)

    @rule(who=whose)
    def expire(self, who: int) -> None:
        assert credits.expire(self.id_of(who), now=self.now) == self.books[who].expire(self.now)

    @rule(who=whose, share=st.integers(1, 4))
    def collect(self, who: int, share: int) -> None:
        owed = self.books[who].owed // share
        if owed:
            command = {
                "accrued_micros": owed,
                "paid_micros": round(Decimal(owed) / CENT) * CENT,
                "reference": f"collect:{next(self.numbers)}",
            }
            posted = collections.collect(organization=self.organizations[who], now=self.now, **command)
            self.moved(who, self.books[who].collect(owed, command["paid_micros"]), posted)
            self.collected.append((who, command))

    @precondition(lambda self: self.collected)
    @rule(pick=picks, more=st.sampled_from([0, 0, 1]))
    def collect_again(self, pick: int, more: int) -> None:
        """I6, I13: a payment is collected once; with another amount under its reference nothing happens."""
        who, command = self.collected[pick % len(self.collected)]
        again = {**command, "paid_micros": command["paid_micros"] + more}
        self.once(
            lambda: collections.collect(organization=self.organizations[who], now=self.now, **again), refused=more
        )
        self.touched.add(who)

    @precondition(lambda self: self.granted)
    @rule(pick=picks)
    def take_back(self, pick: int) -> None:
        who, command = self.granted[pick % len(self.granted)]
        grant = Grant.objects.get(organization=self.organizations[who], reference=command["reference"])
        if self.books[who].credit[command["reference"]].left:
            posted = reversals.reverse_grant(**self.by_staff(who), grant_id=grant.pk)
            self.moved(who, self.books[who].take_back(command["reference"]), posted)
        else:
            with pytest.raises(reversals.NothingLeft), transaction.atomic():
                reversals.reverse_grant(**self.by_staff(who), grant_id=grant.pk)

    @rule(who=whose, back=st.integers(0, 2), share=st.integers(0, 3))
    def forgive(self, who: int, back: int, share: int) -> None:
        """Forgive a part of a month: off its invoice while it is open, else off the debt; never more than is owed."""
        month = self.recent_month(who, back)
        books = self.books[who]
        micros = books.forgivable(month) // share if share else books.forgivable(month) + 1
        is_closed = books.closed is not None and month <= books.closed
        verb = write_offs.write_off if is_closed else write_offs.forgive
        if share and micros:
            posted = verb(**self.by_staff(who), month=month, micros=micros)
            self.moved(who, books.write_off(micros) if is_closed else books.forgive(month, micros), posted)
        else:
            with pytest.raises(write_offs.MoreThanOwed), transaction.atomic():
                verb(**self.by_staff(who), month=month, micros=micros)

    @precondition(lambda self: self.moves)
    @rule(pick=picks)
    def undo(self, pick: int) -> None:
        who, move = self.moves[pick % len(self.moves)]
        command = {**self.by_staff(who), "transaction_id": move.transaction_id}
        if (opposite := self.books[who].undo(move)) is not None:
            self.moved(who, opposite, reversals.reverse(**command))
        else:
            with pytest.raises((reversals.AlreadyReversed, reversals.NotReversible)), transaction.atomic():
                reversals.reverse(**command)

    @rule(who=whose)
    def freeze(self, who: int) -> None:
        """While the account is frozen nothing moves."""
        accounts.freeze(self.id_of(who), reason="Test", now=self.now)
        for verb in (settlement.settle, credits.expire):
            with pytest.raises(accounts.AccountFrozen), transaction.atomic():
                verb(self.id_of(who), now=self.now)
        accounts.unfreeze(self.id_of(who))

    @rule(who=whose, back=st.integers(0, 2))
    def close_month(self, who: int, back: int) -> None:
        """Close a recent month, also once more; one that is not over is refused."""
        month = self.recent_month(who, back)
        if self.books[who].close(month, self.now):
            periods.close(self.id_of(who), month, now=self.now)
        else:
            with pytest.raises(periods.PeriodNotOver), transaction.atomic():
                periods.close(self.id_of(who), month, now=self.now)
        self.organizations[who].refresh_from_db()
        self.touched.add(who)

    @rule(who=whose, zone=st.sampled_from(ZONES))
    def move(self, who: int, zone: str) -> None:
        """The organization moves: from its next month on."""
        organizations.change_time_zone(self.organizations[who], time_zone=zone)
        self.books[who].next_zone = "" if zone == self.books[who].zone else zone
        self.touched.add(who)

    # ── What holds after every step ───────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def holds(self) -> None:
        """I1 to I6, I8, I9: in the organizations that the step touched."""
        type(self).steps += 1
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # I1: the database's own check, due at the commit
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        for who in self.touched:
            self.i01_i02_books_and_balances_are_the_models(who)
            self.i03_i05_each_grant_has_left_what_the_model_says(who)
            self.i04_every_call_is_funded_once(who)
            self.i09_rollups_are_the_sums_of_the_facts(who)
            assert list(verification.verify(self.id_of(who))) == []
        self.touched.clear()

    def i01_i02_books_and_balances_are_the_models(self, who: int) -> None:
        books, account = self.books[who], Account.objects.get(organization=self.organizations[who])
        balance = balances.balance(account, now=self.now)
        assert (balance.credit_micros, balance.accrued_micros) == (books.credit_left(self.now), books.owed)
        found = Entry.objects.filter(organization_id=account.organization_id).order_by("book")
        sums = {book: micros for book, micros in found.values_list("book").annotate(Sum("micros")) if micros}
        expected = {
            "issued": -sum(grant.micros for grant in books.credit.values()),
            "credit": sum(grant.left for grant in books.credit.values()),
            "breakage": books.sums["expired"],
            "reversed": books.sums["taken back"],
            "written_off": -books.sums["written off"],
            "usage": sum(gross.total() for gross in books.settled.values()),
            "receivable": -books.owed,
            "payments": -books.sums["paid"],
            "rounding": books.sums["paid"] - books.sums["collected"],
        }
        assert sums == {book: micros for book, micros in expected.items() if micros}

    def i03_i05_each_grant_has_left_what_the_model_says(self, who: int) -> None:
        grants = Grant.objects.filter(organization=self.organizations[who])
        left = dict(grants.values_list("reference", "remaining_micros"))
        assert left == {reference: grant.left for reference, grant in self.books[who].credit.items()}

    def i04_every_call_is_funded_once(self, who: int) -> None:
        books = self.books[who]
        assert Account.objects.get(organization=self.organizations[who]).last_sequence == books.calls_settled
        for month, gross in books.settled.items():
            found = totals.month(self.id_of(who), month)
            assert {component: micros for component, micros in found.gross.items() if micros} == +gross
            assert found.accrued_micros == books.accrued[month] - books.forgiven[month]
            assert found.gross_micros == found.accrued_micros + found.burnt_micros

    def i09_rollups_are_the_sums_of_the_facts(self, who: int) -> None:
        assert rollups.verify(self.id_of(who)) == []
        for month, gross in self.books[who].settled.items():
            found = rollups.component_totals(self.id_of(who), month)
            assert {component: micros for component, micros in found.items() if micros} == +gross

    # ── Ways and means ────────────────────────────────────────────────────────────────────────────────────────────────

    def id_of(self, who: int) -> int:
        self.touched.add(who)
        return self.organizations[who].pk

    def recent_month(self, who: int, back: int) -> date:
        return max(self.now - timedelta(days=31 * back), self.books[who].opened_at).date().replace(day=1)

    def by_staff(self, who: int) -> dict:
        """Return what every command of a person carries."""
        self.touched.add(who)
        reference = f"staff:{next(self.numbers)}"
        return {
            "organization": self.organizations[who],
            "reason": "Machine",
            "reference": reference,
            "now": self.now,
        }

    def moved(self, who: int, move: model.Move, posted: Transaction) -> None:
        move.transaction_id = posted.pk
        self.moves.append((who, move))
        self.touched.add(who)

    def answers(self, who: int, recorded: list[model.Call]) -> set[str]:
        """Record calls and return how they were answered."""
        items = [
            {
                "call_id": f"call_{call.number}",
                "organization": self.organizations[who].reference,
                "call_type": "web_call",
                "call_status": "ended",
                "start_timestamp": int(call.started_at.timestamp() * 1000),
                "duration_ms": call.duration_ms,
                "products": sorted(call.products),
            }
            for call in recorded
        ]
        return {answer.status for answer in ingestion.record([msgspec.json.encode(i) for i in items], now=self.now)}

    def once(self, command: Callable[[], object], *, refused: int) -> None:
        if refused:
            with pytest.raises(journal.ReferenceReused), transaction.atomic():
                command()
        else:
            command()


def price_book() -> dict:
    """Return the model's prices as a document."""
    rates = [
        {"product": product, "component": component, "unit": unit, "rate": str(Decimal(micros).scaleb(-6))}
        for product, component, unit, micros in model.PRICES
    ]
    version = {"number": 1, "starts_at": datetime(2020, 1, 1, tzinfo=UTC), "rates": rates}
    return {"books": [{"reference": "m", "name": "M", "currency": "USD", "default": True, "versions": [version]}]}


@pytest.fixture
def run(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Return what runs the machine for some steps, and returns how many it took. Shrinking is left to the long test."""
    prices.load(price_book(), now=START)
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
