"""Any sequence of the ledger's verbs keeps its laws, and replaying it changes nothing."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_portal.ledger import (
    accounts,
    balances,
    collections,
    credits,
    reversals,
    settlement,
    verification,
    write_offs,
)
from billing_portal.ledger.models import Entry, Grant, Transaction

pytestmark = pytest.mark.django_db
_REFUSALS = (
    reversals.NothingLeft,
    reversals.NotReversible,
    reversals.AlreadyReversed,
    write_offs.MoreThanOwed,
)

amounts = st.integers(1, 3_000_000)
picks = st.integers(0, 20)
steps = st.one_of(
    st.tuples(st.just("grant"), st.sampled_from(Grant.Kind.values), amounts, st.integers(-1, 6)),
    st.tuples(st.just("settle"), st.integers(1, 15)),
    st.tuples(st.just("expire")),
    st.tuples(st.just("take back"), picks),
    st.tuples(st.just("undo"), picks),
    st.tuples(st.just("forgive"), amounts),
    st.tuples(st.just("collect"), amounts),
    st.tuples(st.just("wait"), st.integers(1, 3)),
)


class Books:
    """One organization's ledger, driven step by step; each step has its reference, so that it can be repeated."""

    def __init__(self, organization, now):
        self.organization, self.now, self.started_at = organization, now, now

    def do(self, number, step):
        verb, *arguments = step
        try:
            getattr(self, verb.replace(" ", "_"))(f"step:{number}", *arguments)
        except _REFUSALS as refusal:
            return type(refusal).__name__
        return "done"

    def grant(self, reference, kind, micros, days):
        expires_at = self.now + timedelta(days=days) if days > 0 else None
        give = {"kind": Grant.Kind(kind), "micros": micros, "reference": reference, "expires_at": expires_at}
        credits.grant(organization=self.organization, now=self.now, **give)

    def settle(self, reference, limit):
        settlement.settle(self.organization.pk, now=self.now, limit=limit)

    def expire(self, reference):
        credits.expire(self.organization.pk, now=self.now)

    def take_back(self, reference, pick):
        if grants := list(Grant.objects.order_by("id")):
            self._reverse(reversals.reverse_grant, reference, grant_id=grants[pick % len(grants)].pk)

    def undo(self, reference, pick):
        if transactions := list(Transaction.objects.exclude(reference=reference).order_by("id")):
            self._reverse(reversals.reverse, reference, transaction_id=transactions[pick % len(transactions)].pk)

    def forgive(self, reference, micros):
        month = self.started_at.date().replace(day=1)
        self._reverse(write_offs.forgive, reference, month=month, micros=micros)

    def collect(self, reference, micros):
        paid = -(-micros // 10_000) * 10_000
        amounts = {"accrued_micros": micros, "paid_micros": paid}
        collections.collect(organization=self.organization, reference=reference, now=self.now, **amounts)

    def wait(self, reference, days):
        self.now += timedelta(days=days)

    def _reverse(self, verb, reference, **what):
        verb(organization=self.organization, reason="Property", reference=reference, now=self.now, **what)


def state():
    return (
        list(Grant.objects.order_by("id").values_list("reference", "remaining_micros")),
        list(Entry.objects.order_by("id").values_list("transaction__reference", "book", "micros")),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(steps, min_size=1, max_size=14))
def test_i01_i02_i03_i05_any_story_keeps_the_laws(ground, now, story):
    with transaction.atomic():
        books = Books(ground, now)
        for number, step in enumerate(story):
            before = balances.balance(accounts.open(organization=ground, now=now), now=books.now)
            outcome = books.do(number, step)
            if outcome != "done":  # what is refused changes nothing
                assert balances.balance(accounts.open(organization=ground, now=now), now=books.now) == before
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        assert [str(each) for each in verification.verify(ground.pk)] == []
        assert all(0 <= each.remaining_micros <= each.amount_micros for each in Grant.objects.all())
        transaction.set_rollback(True)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(steps, min_size=1, max_size=10))
def test_i06_repeating_every_command_changes_nothing(ground, now, story):
    """Each command is sent twice in a row, as a client does that lost the first answer."""
    with transaction.atomic():
        books = Books(ground, now)
        for number, step in enumerate(story):
            outcome = books.do(number, step)
            once = state()
            if step[0] not in {"settle", "wait"} and outcome == "done":
                assert books.do(number, step) == "done"
                assert state() == once
        transaction.set_rollback(True)


@pytest.fixture
def ground(with_calls, now, monkeypatch):
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)
    return with_calls("acme", 40)
