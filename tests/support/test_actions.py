"""What staff do: once, with a reason, alone below the limit and by two above it."""

import threading
import uuid
from datetime import date, timedelta

import pytest
from django.core import mail as outbox
from django.db import IntegrityError, ProgrammingError, connection, transaction

from accounts import people, posting
from accounts.models import Letter
from billing_portal.ledger import accounts, balances, checks, credits, settlement, totals, verification
from billing_portal.ledger.models import Account, Grant, Transaction
from billing_portal.support import actions, kinds
from billing_portal.support.models import StaffAction
from tests.billing import world

pytestmark = pytest.mark.django_db
LIMIT = 50_000_000
OCTOBER = date(2026, 10, 1)


@pytest.fixture(autouse=True)
def _no_settling_behind_the_back(monkeypatch):
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


@pytest.fixture
def sam(db):
    return people.admit(email="sam@desk.example", password="x", name="Sam Stone", is_staff=True)


@pytest.fixture
def tess(db):
    return people.admit(email="tess@desk.example", password="x", name="Tess Tern", is_staff=True)


@pytest.fixture
def books(acme, now):
    """Acme's account, with October's usage accrued to its card."""
    world.load_prices()
    account = accounts.open(organization=acme, now=now.replace(day=1))
    world.record_calls(acme, 12, starts_at=now, now=now + timedelta(days=1))
    settlement.settle_all(acme.pk, now=now)
    return account


def ask(organization, by, now, *, kind="goodwill", key=None, reason="Outage on 12 October", **params):
    return actions.ask(
        kind=kinds.named(kind),
        organization=organization,
        params=params or {"micros": 5_000_000, "last_day": None},
        reason=reason,
        public_id=key or uuid.uuid4(),
        by=by,
        now=now,
    )


def goodwill(micros):
    return {"micros": micros, "last_day": None}


def credit(organization, now):
    return balances.balance(Account.objects.get(organization=organization), now=now).credit_micros


def owed(organization, now):
    return balances.balance(Account.objects.get(organization=organization), now=now).accrued_micros


def test_a_small_gift_is_given_at_once_and_kept_with_who_and_why(acme, books, sam, now):
    done = ask(acme, sam, now)
    assert (done.state, done.needs_approval, done.decided_by) == ("done", False, None)
    grant = Grant.objects.get()
    assert (grant.kind, grant.amount_micros, grant.reason) == ("goodwill", 5_000_000, "Outage on 12 October")
    assert grant.reference == done.reference
    assert list(verification.verify(acme.pk)) == []


def test_f27_the_same_form_sent_twice_is_one_action(acme, books, sam, now):
    key = uuid.uuid4()
    assert ask(acme, sam, now, key=key) == ask(acme, sam, now + timedelta(minutes=1), key=key)
    assert Grant.objects.count() == StaffAction.objects.count() == 1


def test_f28_a_form_changed_after_it_was_sent_is_refused(acme, books, sam, now):
    key = uuid.uuid4()
    ask(acme, sam, now, key=key)
    for changed in ({"reason": "Another"}, goodwill(6_000_000), {"kind": "correction", "micros": 5_000_000}):
        with pytest.raises(actions.FormReused):
            ask(acme, sam, now, key=key, **changed)
    assert credit(acme, now) == 5_000_000


@pytest.mark.django_db(transaction=True)
def test_f29_sent_from_eight_tabs_at_once_it_is_one_action(acme, books, sam, now):
    key, start, done = uuid.uuid4(), threading.Barrier(8), []

    def work():
        start.wait()
        try:
            done.append(ask(acme, sam, now, key=key).pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 8
    assert len(set(done)) == 1
    assert credit(acme, now) == 5_000_000


def test_a_large_gift_waits_for_a_second_person_and_is_written_to_staff(acme, books, sam, tess, now):
    waiting = ask(acme, sam, now, **goodwill(LIMIT + 1))
    assert waiting.state == "waiting"
    assert credit(acme, now) == 0
    posting.post(Letter.objects.all(), now=now)
    assert "Give goodwill credit: $50.000001 for Acme Robotics" in outbox.outbox[0].body
    assert f"/staff/approvals/{waiting.public_id}/" in outbox.outbox[0].alternatives[0].content
    done = actions.approve(waiting.public_id, by=tess, now=now)
    assert (done.state, done.decided_by) == ("done", tess)
    assert credit(acme, now) == LIMIT + 1


def test_ten_small_gifts_are_one_large_one(acme, other, books, sam, tess, now):
    accounts.open(organization=other, now=now)
    for _ in range(10):
        assert ask(acme, sam, now, **goodwill(LIMIT // 10)).state == "done"
    assert ask(acme, sam, now, **goodwill(1)).state == "waiting"
    assert ask(acme, tess, now, **goodwill(1)).state == "done"
    assert ask(other, sam, now, **goodwill(1)).state == "done"
    assert ask(acme, sam, now + timedelta(days=1, seconds=1), **goodwill(1)).state == "done"


def test_whoever_asked_cannot_approve_and_the_database_agrees(acme, books, sam, now):
    waiting = ask(acme, sam, now, **goodwill(LIMIT + 1))
    with pytest.raises(actions.SamePerson):
        actions.approve(waiting.public_id, by=sam, now=now)
    with pytest.raises(actions.SamePerson):
        actions.decline(waiting.public_id, by=sam, reason="x", now=now)
    with pytest.raises(IntegrityError, match="staff_action_is_decided_by_another"), transaction.atomic():
        StaffAction.objects.filter(pk=waiting.pk).update(state="done", decided_by=sam, decided_at=now)
    with pytest.raises(IntegrityError, match="done_with_the_approval_it_needs"), transaction.atomic():
        StaffAction.objects.filter(pk=waiting.pk).update(state="done")
    assert credit(acme, now) == 0


@pytest.mark.django_db(transaction=True)
def test_i06_approved_by_many_at_once_it_is_done_once(acme, books, sam, now):
    waiting = ask(acme, sam, now, **goodwill(LIMIT + 1))
    approvers = [people.admit(email=f"a{n}@desk.example", password="x", is_staff=True) for n in range(4)]
    start, outcomes = threading.Barrier(8), []

    def work(by):
        start.wait()
        try:
            actions.approve(waiting.public_id, by=by, now=now)
            outcomes.append(by.pk)
        except actions.AlreadyDecided:
            outcomes.append(None)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(approvers[number % 4],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each for each in outcomes if each}) == 1
    assert outcomes.count(None) == 6
    assert Grant.objects.count() == 1
    assert credit(acme, now) == LIMIT + 1


def test_declined_and_withdrawn_change_nothing_and_stand(acme, books, sam, tess, now):
    first, second = (ask(acme, sam, now, **goodwill(LIMIT + n)) for n in (1, 2))
    actions.decline(first.public_id, by=tess, reason="Too much", now=now)
    with pytest.raises(StaffAction.DoesNotExist):
        actions.withdraw(second.public_id, by=tess)
    actions.withdraw(second.public_id, by=sam)
    for each in (first, second):
        with pytest.raises(actions.AlreadyDecided):
            actions.approve(each.public_id, by=tess, now=now)
        with pytest.raises(ProgrammingError, match="is decided"), transaction.atomic():
            StaffAction.objects.filter(pk=each.pk).update(reason="Rewritten")
    assert credit(acme, now) == 0


def test_staff_actions_cannot_be_deleted(acme, books, sam, now):
    done = ask(acme, sam, now)
    with pytest.raises(ProgrammingError, match="Cannot delete"), transaction.atomic():
        done.delete()


def test_credit_is_taken_back_as_far_as_it_is_there_when_it_is_done(acme, books, sam, tess, now):
    grant = credits.grant(organization=acme, kind=Grant.Kind.PREPAID, micros=LIMIT * 2, reference="p", now=now)
    waiting = ask(acme, sam, now, kind="take_back", grant=grant.pk)
    assert waiting.amount_micros == LIMIT * 2
    world.record_calls(acme, 5, starts_at=now, now=now + timedelta(days=1), seed=3)
    settlement.settle_all(acme.pk, now=now)
    left = Grant.objects.get().remaining_micros
    actions.approve(waiting.public_id, by=tess, now=now)
    assert Transaction.objects.get(kind="reverse").entries.get(book="reversed").micros == left < LIMIT * 2


def test_what_cannot_be_done_any_more_is_refused_and_still_waits(acme, books, sam, tess, now):
    grant = credits.grant(organization=acme, kind=Grant.Kind.PREPAID, micros=LIMIT * 2, reference="p", now=now)
    first, second = (ask(acme, sam, now, kind="take_back", grant=grant.pk) for _ in range(2))
    actions.approve(first.public_id, by=tess, now=now)
    with pytest.raises(actions.Refused, match="Nothing is left"):
        actions.approve(second.public_id, by=tess, now=now)
    second.refresh_from_db()
    assert second.state == "waiting"


def test_a_previewed_change_is_what_happens_to_the_micro(acme, books, sam, now):
    grant = credits.grant(organization=acme, kind=Grant.Kind.GOODWILL, micros=7_654_321, reference="g", now=now)
    cases = [
        ("goodwill", goodwill(5_000_000)),
        ("correction", {"micros": 1_234_567}),
        ("take_back", {"grant": grant.pk}),
        ("forgive", {"micros": 1_000_003, "month": "2026-10-01"}),
    ]
    figures = {"Credit left": credit, "Owed in all": owed}
    for name, params in cases:
        seen = actions.preview(kind=kinds.named(name), organization=acme, params=params, by=sam, now=now)
        foretold = [(change, figures[change.label]) for change in seen.changes if change.label in figures]
        assert foretold
        assert all(figure(acme, now) == change.before_micros for change, figure in foretold)
        ask(acme, sam, now, kind=name, **params)
        assert all(figure(acme, now) == change.after_micros for change, figure in foretold)
    undone = Transaction.objects.get(kind="write_off")
    seen = actions.preview(
        kind=kinds.named("undo"), organization=acme, params={"transaction": undone.pk}, by=sam, now=now
    )
    ask(acme, sam, now, kind="undo", transaction=undone.pk)
    assert owed(acme, now) == seen.changes[0].after_micros
    assert list(verification.verify(acme.pk)) == []


def test_forgiving_more_than_is_owed_is_refused_and_changes_nothing(acme, books, sam, now):
    before = owed(acme, now)
    with pytest.raises(actions.Refused, match="can be forgiven"):
        ask(acme, sam, now, kind="forgive", micros=before + 1, month="2026-10-01")
    assert totals.month(acme.pk, OCTOBER).accrued_micros == before
    assert not StaffAction.objects.exists()


def test_a_frozen_account_is_thawed_by_one_person_with_a_reason_and_by_nothing_else(acme, books, sam, now):
    credits.grant(organization=acme, kind=Grant.Kind.GOODWILL, micros=9, reference="g", now=now)
    Grant.objects.update(remaining_micros=8)
    checks.check(acme.pk, now=now)
    with pytest.raises(accounts.AccountFrozen):
        ask(acme, sam, now)
    seen = actions.preview(kind=kinds.named("unfreeze"), organization=acme, params={}, by=sam, now=now)
    assert any("expected 9, found 8" in change.note for change in seen.changes)
    actions.ask(
        kind=kinds.named("unfreeze"), organization=acme, params={}, reason="Known", public_id=uuid.uuid4(), by=sam,
        now=now,
    )  # fmt: skip
    assert ask(acme, sam, now).state == "done"


def test_a_gift_whose_last_day_is_over_is_refused_at_its_approval(acme, books, sam, tess, now):
    waiting = ask(acme, sam, now, micros=LIMIT + 1, last_day="2026-10-16")
    with pytest.raises(actions.Refused, match="last day is over"):
        actions.approve(waiting.public_id, by=tess, now=now + timedelta(days=2))
    actions.approve(waiting.public_id, by=tess, now=now + timedelta(hours=1))
    assert Grant.objects.get().expires_at.isoformat() == "2026-10-17T00:00:00+00:00"


def test_i16_another_organization_s_grant_cannot_be_named(acme, other, books, sam, now):
    accounts.open(organization=other, now=now)
    foreign = credits.grant(organization=other, kind=Grant.Kind.PREPAID, micros=5, reference="p", now=now)
    with pytest.raises(Grant.DoesNotExist):
        ask(acme, sam, now, kind="take_back", grant=foreign.pk)
