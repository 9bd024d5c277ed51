"""A machine that does anything to the books in any order, beside a model that says what they must say afterwards.

Every step runs the real commands on real PostgreSQL; every example is one transaction, rolled back at its end. A new
command joins with a rule here and its effect in `model.Books`.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from operator import itemgetter

import msgspec
import pytest
from django.db import connection, transaction
from django.db.models import Sum
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from psycopg.pq import TransactionStatus

from accounts import organizations
from accounts.models import Organization
from billing_portal.ledger import (
    accounts,
    authorization,
    balances,
    collections,
    credits,
    journal,
    limits,
    periods,
    reservations,
    reversals,
    settlement,
    totals,
    verification,
    write_offs,
)
from billing_portal.ledger.models import Account, Burn, Entry, Grant, Reservation, Transaction
from tests.ledger import model
from usage import charges, ingestion, rollup_upkeep, rollups

START = datetime(2026, 10, 15, 9, 30, tzinfo=UTC)
END = START + timedelta(days=365)  # of time, so that few months need a table
ZONES = ["UTC", "America/Los_Angeles", "Asia/Kolkata", "Pacific/Auckland"]
CENT = 10_000

whose = st.integers(0, 1)
picks = st.integers(0, 10**6)
ages = st.integers(0, 90) | st.integers(0, 600) | st.integers(0, 50 * 24 * 60)  # minutes
calls = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.integers(0, 600_000),
        st.frozensets(st.sampled_from([product for product, *_ in model.PRICES])),
    ),
    min_size=1,
    max_size=3,
)
months_back = st.integers(0, 2)


kinds = st.sampled_from(list(Grant.Kind))
hours = st.none() | st.integers(1, 60 * 24)


def verb(name: str, *arguments: st.SearchStrategy) -> st.SearchStrategy:
    """Return a method of the machine to call, with what."""
    return st.tuples(st.just(name), *arguments)


# Few rules, each with many verbs: Hypothesis leaves out whole rules at random, and too few would be left of many.
usage = st.one_of(
    verb("record", ages, calls),
    verb("record_and_settle", ages, calls),
    verb("settle", st.integers(1, 6)),
    verb("settle_all"),
    verb("settle_together"),
)
credit = st.one_of(
    verb("grant", kinds, st.integers(1, 400_000), hours),
    verb("burn_a_part", st.lists(st.tuples(kinds, hours), min_size=2, max_size=4)),
    verb("expire"),
    verb("collect", st.integers(1, 4)),
    verb("cap", st.none() | st.integers(0, 5_000_000)),
    verb("reserve", st.integers(1, 2_000_000)),
    verb("end_reservation", picks, st.sampled_from(["used", "released"])),
)
staff = st.one_of(
    verb("take_back", picks),
    verb("forgive", months_back, st.integers(0, 3)),
    verb("undo", picks),
    verb("replay", picks, st.booleans()),
    verb("refusals", st.integers(-2, 0)),
)
time = st.one_of(
    verb("time_passes", st.integers(1, 120) | st.integers(60 * 24, 60 * 24 * 20)),
    verb("month_ends", st.integers(0, 36)),
    verb("close_month", months_back),
    verb("bill_late"),
    verb("move", st.sampled_from(ZONES)),
)


class Machine(RuleBasedStateMachine):
    """Two organizations, a clock, and the model of both."""

    steps = 0
    done: Counter[str] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.numbers = iter(range(10**6))
        self.organizations: list[Organization] = []
        self.books: list[model.Books] = []
        self.granted: list[list[str]] = [[], []]
        self.moves: list[list[model.Move]] = [[], []]
        self.replays: list[list[Callable[..., object]]] = [[], []]
        self.touched: set[int] = set()
        self.proved: dict[object, object] = {}
        self.example = transaction.atomic()
        self.example.__enter__()

    def teardown(self) -> None:
        try:
            if connection.connection.info.transaction_status != TransactionStatus.INERROR:
                self.touched = set(range(len(self.books)))
                self.proved.clear()
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
        # The second has a card; billing keeps this by a trigger on its cards.
        Account.objects.filter(organization=self.organizations[1]).update(has_card=True)
        self.books[1].has_card = True

    @rule(who=whose, do=usage)
    def use(self, who: int, do: tuple) -> None:
        self.do(who, *do)

    @rule(who=whose, do=credit)
    def pay(self, who: int, do: tuple) -> None:
        self.do(who, *do)

    @rule(who=whose, do=staff)
    def tend(self, who: int, do: tuple) -> None:
        self.do(who, *do)

    @rule(who=whose, do=time)
    def wait(self, who: int, do: tuple) -> None:
        self.do(who, *do)

    def do(self, who: int, name: str, *arguments: object) -> None:
        type(self).done[name] += 1
        getattr(self, name)(who, *arguments)

    # ── Verbs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def time_passes(self, who: int, minutes: int) -> None:
        if self.now < END:
            self.now += timedelta(minutes=minutes)
            self.touched.add(who)

    def month_ends(self, who: int, hours: int) -> None:
        """Go to the hours in which the zones' months end and begin; some close theirs then."""
        next_month = model.midnight(model.following(self.now.date().replace(day=1)), "UTC")
        if self.now < END:
            self.now = max(self.now, next_month + timedelta(hours=hours - 12))
        self.close_month(who, 1)

    def record(self, who: int, age: int, made: list[tuple[int, int, frozenset[str]]]) -> None:
        recorded = [
            model.Call(self.now - timedelta(minutes=age + more), next(self.numbers), duration_ms, used)
            for more, duration_ms, used in made
        ]
        assert self.answers(who, recorded) == {ingestion.RECORDED}
        for call in recorded:
            self.books[who].record(call)
            self.replays[who].append(lambda other, call=call: self.record_again(who, call, longer_ms=1000 * other))

    def record_and_settle(self, who: int, age: int, made: list[tuple[int, int, frozenset[str]]]) -> None:
        """As it goes all day long."""
        self.record(who, age, made)
        self.settle_all(who)

    def settle(self, who: int, limit: int) -> None:
        """I4, I8: pieces of any size; each call once, under the next number; the model knows what they come to."""
        books, last = self.books[who], self.books[who].calls_settled
        month = books.next_month if books.waiting else START.date()
        count = settlement.settle(self.id_of(who), now=self.now, limit=limit)
        taken = list(charges.of_month(self.id_of(who), month, after=last))
        assert [call.sequence for call in taken] == list(range(last + 1, last + 1 + count))
        assert min(1, len(books.waiting)) <= count <= limit
        assert count == books.settle_next(self.now, {int(call.call_id.removeprefix("call_")) for call in taken})

    def settle_together(self, who: int) -> None:
        """Both organizations in one transaction: of each its next month, as if it were alone."""
        waited = {self.id_of(who): self.books[who].settle_next(self.now) for who in (0, 1)}
        ids = [organization.pk for organization in self.organizations]
        assert settlement.settle_many(ids, now=self.now) == {pk: count for pk, count in waited.items() if count}

    def settle_all(self, who: int) -> None:
        waited = len(self.books[who].waiting)
        while self.books[who].settle_next(self.now):
            pass
        assert settlement.settle_all(self.id_of(who), now=self.now) == waited

    def grant(self, who: int, kind: Grant.Kind, micros: int, hours: int | None) -> None:
        reference, expires_at = f"g{next(self.numbers)}", hours and self.now + timedelta(hours=hours)
        command = {**self.once(who, reference), "kind": kind, "micros": micros, "expires_at": expires_at}
        credits.grant(**command)
        self.books[who].grant(reference, str(kind), micros, expires_at, self.now)
        self.granted[who].append(reference)
        self.replays[who].append(lambda other: credits.grant(**{**command, "micros": micros + other}))

    def burn_a_part(self, who: int, given: list[tuple[Grant.Kind, int | None]]) -> None:
        """I5: with several grants that each would do, it shows which one is burnt first."""
        for kind, hours in given:
            self.grant(who, kind, 1_500_000, hours)
        self.record_and_settle(who, 0, [(0, 600_000, frozenset({"voice_a"}))])

    def expire(self, who: int) -> None:
        assert credits.expire(self.id_of(who), now=self.now) == self.books[who].expire(self.now)

    def collect(self, who: int, share: int) -> None:
        owed = self.books[who].owed // share
        if owed:
            paid = round(Decimal(owed) / CENT) * CENT
            command = {**self.once(who), "accrued_micros": owed, "paid_micros": paid}
            posted = collections.collect(**command)
            self.moved(who, self.books[who].collect(owed, paid), posted)
            self.replays[who].append(lambda other: collections.collect(**{**command, "paid_micros": paid + other}))

    def cap(self, who: int, micros: int | None) -> None:
        limits.set(self.id_of(who), limits.Terms(cap_micros=micros), by=None, now=self.now, even_if_usage_stops=True)
        self.books[who].cap = micros

    def reserve(self, who: int, micros: int) -> None:
        """I3: nothing is held beyond what credit, card and cap leave."""
        wish = reservations.Wish(reference=f"call{next(self.numbers)}", micros=micros, lasts_seconds=86_400)
        if self.books[who].reserve(wish.reference, micros, self.now):
            _, is_new = reservations.reserve(self.id_of(who), wish, now=self.now)
            assert is_new
            self.replays[who].append(lambda other: self.reserve_again(who, wish, more=other))
        else:
            with pytest.raises(reservations.SpendRefused):
                reservations.reserve(self.id_of(who), wish, now=self.now)

    def reserve_again(self, who: int, wish: reservations.Wish, *, more: int) -> None:
        again = dataclasses.replace(wish, micros=wish.micros + more)
        assert reservations.reserve(self.id_of(who), again, now=self.now)[1] is False

    def end_reservation(self, who: int, pick: int, state: str) -> None:
        """I14: a reservation ends in one way."""
        books = self.books[who]
        if not books.holds:
            return
        reference = sorted(books.holds)[pick % len(books.holds)]
        verb = reservations.use if state == "used" else reservations.release
        if books.end(reference, state):
            assert verb(self.id_of(who), reference).state == state
        else:
            with pytest.raises(reservations.ReservationEnded), transaction.atomic():
                verb(self.id_of(who), reference)

    def take_back(self, who: int, pick: int) -> None:
        if not self.granted[who]:
            return
        reference = self.granted[who][pick % len(self.granted[who])]
        grant = Grant.objects.get(organization=self.organizations[who], reference=reference)
        if self.books[who].credit[reference].left:
            posted = self.by_staff(who, reversals.reverse_grant, grant_id=grant.pk)
            self.moved(who, self.books[who].take_back(reference), posted)
        else:
            with pytest.raises(reversals.NothingLeft), transaction.atomic():
                self.by_staff(who, reversals.reverse_grant, grant_id=grant.pk)

    def forgive(self, who: int, back: int, share: int) -> None:
        """Forgive a part of a month: off its invoice while it is open, else off the debt; never more than is owed."""
        month, books = self.recent_month(who, back), self.books[who]
        is_closed = books.closed is not None and month <= books.closed
        most = max(0, books.owed) if is_closed else books.forgivable(month)
        micros = most // share if share else most + 1
        what = {"month": month, "micros": micros} | ({"debt": f"in_{next(self.numbers)}"} if is_closed else {})
        verb = write_offs.write_off if is_closed else write_offs.forgive
        if share and micros:
            posted = self.by_staff(who, verb, **what)
            self.moved(who, books.write_off(micros) if is_closed else books.forgive(month, micros), posted)
        else:
            with pytest.raises(write_offs.MoreThanOwed), transaction.atomic():
                self.by_staff(who, verb, **what)

    def undo(self, who: int, pick: int) -> None:
        if not self.moves[who]:
            return
        move = self.moves[who][pick % len(self.moves[who])]
        if (opposite := self.books[who].undo(move)) is not None:
            self.moved(who, opposite, self.by_staff(who, reversals.reverse, transaction_id=move.transaction_id))
        else:
            with pytest.raises((reversals.AlreadyReversed, reversals.NotReversible)), transaction.atomic():
                self.by_staff(who, reversals.reverse, transaction_id=move.transaction_id)

    def replay(self, who: int, pick: int, other: bool) -> None:
        """I6: a command under its reference is done once; with other content under it, it is refused."""
        if not self.replays[who]:
            return
        again = self.replays[who][pick % len(self.replays[who])]
        self.touched.add(who)
        try:
            with transaction.atomic():
                again(other=other)
        except journal.ReferenceReused:
            assert other
        else:
            assert not other

    def refusals(self, who: int, micros: int) -> None:
        """What cannot be moves nothing: no credit or less, and anything at all on a frozen account."""
        with pytest.raises(credits.AmountNotPositive):
            credits.grant(**self.once(who), kind=Grant.Kind.GOODWILL, micros=micros)
        accounts.freeze(self.id_of(who), reason="Machine", now=self.now)
        for verb in (settlement.settle, credits.expire):
            with pytest.raises(accounts.AccountFrozen), transaction.atomic():
                verb(self.id_of(who), now=self.now)
        accounts.unfreeze(self.id_of(who))

    def close_month(self, who: int, back: int) -> None:
        """Close a recent month, also once more; one that is not over is refused."""
        month = self.recent_month(who, back)
        if self.books[who].close(month, self.now):
            periods.close(self.id_of(who), month, now=self.now)
        else:
            with pytest.raises(periods.PeriodNotOver), transaction.atomic():
                periods.close(self.id_of(who), month, now=self.now)
        self.organizations[who].refresh_from_db()

    def bill_late(self, who: int) -> None:
        """I12: of a month that was closed just now a call still comes, and it shows in which one it is billed."""
        self.month_ends(who, 36)
        self.record_and_settle(who, 60 * 60, [(0, 60_000, frozenset({"voice_a"}))])

    def move(self, who: int, zone: str) -> None:
        """The organization moves: from its next month on."""
        self.touched.add(who)
        organizations.change_time_zone(self.organizations[who], time_zone=zone)
        self.books[who].next_zone = "" if zone == self.books[who].zone else zone

    # ── What holds after every step ───────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def holds(self) -> None:
        """I1 to I6, I8, I9, I14: in the organizations that the step touched, and at the end in both."""
        type(self).steps += 1
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # I1: the database's own check, due at the commit
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        for who in self.touched:
            self.i01_i02_books_and_balances_are_the_models(who)
            self.i03_i05_each_grant_has_left_what_the_model_says(who)
            self.i03_i14_what_is_held_and_what_is_available_are_the_models(who)
            # Where nothing should have moved, that was proof enough that nothing did.
            if self.is_new(who, self.books[who].state()):
                self.i04_every_call_is_funded_once(who)
                self.i05_grants_were_burnt_in_the_models_order(who)
                assert list(verification.verify(self.organizations[who].pk)) == []
            if self.is_new((who, "usage"), self.books[who].calls_settled):
                assert rollup_upkeep.verify(self.organizations[who].pk) == []  # I9
        self.touched.clear()

    def is_new(self, what: object, state: object) -> bool:
        """Say whether the state is another one than when this was asked last."""
        was, self.proved[what] = self.proved.get(what), state
        return was != state

    def i01_i02_books_and_balances_are_the_models(self, who: int) -> None:
        books, account = self.books[who], Account.objects.get(organization=self.organizations[who])
        assert account.last_sequence == books.calls_settled
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

    def i05_grants_were_burnt_in_the_models_order(self, who: int) -> None:
        """Whichever grant paid which settlement, and how much: one after the other."""
        rows = Burn.objects.filter(organization=self.organizations[who]).order_by("id")
        found = itertools.groupby(rows.values_list("settlement", "grant__reference", "micros"), key=itemgetter(0, 1))
        assert [(key[1], sum(row[2] for row in rows)) for key, rows in found] == self.books[who].burns

    def i03_i14_what_is_held_and_what_is_available_are_the_models(self, who: int) -> None:
        books, organization = self.books[who], self.organizations[who]
        held = Reservation.objects.filter(organization=organization).values_list("reference", "state", "amount_micros")
        assert {reference: (state, micros) for reference, state, micros in held} == books.holds
        decided = authorization.authorize(organization.pk, now=self.now)
        assert (decided.available_micros, decided.allowed) == (books.available(self.now), books.available(self.now) > 0)

    def i04_every_call_is_funded_once(self, who: int) -> None:
        """Look at the months that changed: their totals, and the rollups of them, are the model's."""
        for month in self.books[who].settled:
            gross, accrued = self.books[who].month(month)
            if self.is_new((who, month), (gross, accrued)):
                found = totals.month(self.organizations[who].pk, month)
                assert {component: micros for component, micros in found.gross.items() if micros} == gross
                assert found.accrued_micros == accrued
                assert found.gross_micros == found.accrued_micros + found.burnt_micros
                rolled_up = rollups.component_totals(self.organizations[who].pk, month)
                assert {component: micros for component, micros in rolled_up.items() if micros} == gross

    # ── Ways and means ────────────────────────────────────────────────────────────────────────────────────────────────

    def id_of(self, who: int) -> int:
        self.touched.add(who)
        return self.organizations[who].pk

    def recent_month(self, who: int, back: int) -> date:
        return max(self.now - timedelta(days=31 * back), self.books[who].opened_at).date().replace(day=1)

    def once(self, who: int, reference: str = "") -> dict:
        """Return what every command carries that is done once."""
        reference = reference or f"r{next(self.numbers)}"
        self.touched.add(who)
        return {"organization": self.organizations[who], "reference": reference, "now": self.now}

    def by_staff(self, who: int, verb: Callable[..., Transaction], **what: object) -> Transaction:
        command = {**self.once(who), **what, "reason": "Machine"}
        posted = verb(**command)
        self.replays[who].append(lambda other: verb(**{**command, "reason": "Other" if other else "Machine"}))
        return posted

    def moved(self, who: int, move: model.Move, posted: Transaction) -> None:
        move.transaction_id = posted.pk
        self.moves[who].append(move)
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

    def record_again(self, who: int, call: model.Call, *, longer_ms: int) -> None:
        again = model.Call(call.started_at, call.number, call.duration_ms + longer_ms, call.products)
        answers = self.answers(who, [again])
        if answers == {ingestion.CONFLICT}:
            raise journal.ReferenceReused(str(call.number), call, again)
        assert answers == {ingestion.DUPLICATE}


def price_book() -> dict:
    """Return the model's prices as a document."""
    rates = [
        {"product": product, "component": component, "unit": unit, "rate": str(Decimal(micros).scaleb(-6))}
        for product, component, unit, micros in model.PRICES
    ]
    version = {"number": 1, "starts_at": datetime(2020, 1, 1, tzinfo=UTC), "rates": rates}
    return {"books": [{"reference": "m", "name": "M", "currency": "USD", "default": True, "versions": [version]}]}
