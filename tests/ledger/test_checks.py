"""The nightly proof: what it does to books that do not hold, and how staff end it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.core import mail as outbox
from django.core.management import CommandError, call_command
from django.db import connection

from accounts import posting
from accounts.models import Letter
from billing_portal.ledger import (
    accounts,
    authorization,
    checks,
    collections,
    credits,
    periods,
    reversals,
    settlement,
    tasks,
    write_offs,
)
from billing_portal.ledger.models import Account, Check, Finding, Grant, Period
from tests.billing import world

pytestmark = pytest.mark.django_db


@pytest.fixture
def books(acme, now):
    account = accounts.open(organization=acme, now=now)
    credits.grant(organization=acme, kind=Grant.Kind.GOODWILL, micros=5_000_000, reference="g", now=now)
    return account


def falsify(micros=4_999_999):
    Grant.objects.filter(reference="g").update(remaining_micros=micros)


def is_frozen(organization):
    return Account.objects.get(organization=organization).frozen_at is not None


def test_books_that_hold_are_remembered_as_proved(acme, books, now):
    assert checks.check(acme.pk, now=now) == []
    assert Check.objects.get().differences == 0
    assert not is_frozen(acme)


def test_a_difference_freezes_the_account_and_tells_staff_what_and_what_to_do(acme, books, now):
    falsify()
    assert len(checks.check(acme.pk, now=now)) == Finding.objects.count() == Check.objects.get().differences > 0
    assert is_frozen(acme)
    posting.post(Letter.objects.all(), now=now)
    message = outbox.outbox[0]
    assert message.to == settings.STAFF_NOTICE_EMAILS
    assert message.subject == "Acme Robotics is frozen: 2 differences in its books"
    reason = "2 differences in the books, the first: I1 issued = consumed + expired + reversed + remaining."
    assert (Account.objects.get().frozen_reason, Letter.objects.get().written_at) == (reason, now)
    assert "expected 5000000, found 4999999" in message.body
    assert f"/staff/organizations/{acme.public_id}/" in message.body
    assert "lift the freeze" in message.body
    assert f"/staff/organizations/{acme.public_id}/" in message.alternatives[0].content


def test_one_difference_is_told_as_one(acme, books, now):
    Account.objects.filter(organization=acme).update(last_sequence=1)
    [finding] = checks.check(acme.pk, now=now)
    law = "I4 the account's last sequence is the last settlement's"
    assert (finding.law, finding.subject, finding.expected, finding.found) == (law, "account", 0, 1)
    assert Account.objects.get().frozen_reason == f"1 difference in the books, the first: {law}."


def test_charges_are_proved_for_the_month_of_six_weeks_ago_and_none_before_it(with_calls, now):
    organization, later = with_calls("metered", 3), datetime(2026, 11, 10, tzinfo=UTC)
    settlement.settle_all(organization.pk, now=now)
    world.record_calls(organization, 2, starts_at=later, now=later + timedelta(days=1), seed=2)
    settlement.settle_all(organization.pk, now=later + timedelta(days=1))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # no trigger keeps it then
        cursor.execute("DELETE FROM usage_call")
        cursor.execute("SET LOCAL session_replication_role = origin")
    laws = ["I4 a settlement's charges are all there", "I4 a settlement's gross is the sum of its charges"]
    first_unread = datetime(2026, 12, 16, tzinfo=UTC)  # 45 days before is the first of November
    found = checks.check(organization.pk, now=first_unread)
    assert [(each.law, each.subject.split()[-1]) for each in found] == [(law, "4") for law in laws]
    both = checks.check(organization.pk, now=first_unread - timedelta(microseconds=1))
    assert {(each.law, each.subject.split()[-1]) for each in both} == {(law, at) for law in laws for at in ("1", "4")}


def test_i06_proving_again_finds_the_same_once_and_writes_once(acme, books, now):
    falsify()
    checks.check(acme.pk, now=now)
    found = Finding.objects.count()
    checks.check(acme.pk, now=now + timedelta(days=1))
    assert (Finding.objects.count(), Letter.objects.count()) == (found, 1)


def test_a_frozen_account_moves_no_money(with_calls, acme, books, now):
    checks.check(acme.pk, now=now)
    accounts.freeze(acme.pk, reason="1 difference in the books.", now=now)
    give = {"organization": acme, "now": now, "reference": "x"}
    month = now.date().replace(day=1)
    verbs = [
        lambda: credits.grant(kind=Grant.Kind.GOODWILL, micros=1, **give),
        lambda: credits.expire(acme.pk, now=now),
        lambda: settlement.settle(acme.pk, now=now),
        lambda: collections.collect(accrued_micros=1, paid_micros=1, **give),
        lambda: periods.close(acme.pk, month, now=now + timedelta(days=40)),
        lambda: reversals.reverse_grant(grant_id=Grant.objects.get().pk, reason="r", **give),
        lambda: reversals.reverse(transaction_id=1, reason="r", **give),
        lambda: write_offs.forgive(month=month, micros=1, reason="r", **give),
        lambda: write_offs.write_off(month=month, micros=1, debt="in_1", reason="r", **give),
        lambda: accounts.limit_arrears(acme.pk, micros=1),
    ]
    for verb in verbs:
        with pytest.raises(accounts.AccountFrozen, match="1 difference in the books"):
            verb()
    decision = authorization.authorize(acme.pk, now=now)
    assert (decision.allowed, decision.reason) == (False, authorization.Reason.FROZEN)


def test_f24_a_frozen_account_holds_up_no_other(with_calls, now, monkeypatch):
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)
    monkeypatch.setattr("accounts.clock.now", lambda: now + timedelta(hours=2))
    frozen, free = with_calls("frozen", 3), with_calls("free", 3)
    for organization in (frozen, free):
        expires_at = now + timedelta(hours=1)
        credits.grant(
            organization=organization, kind=Grant.Kind.WELCOME, micros=9, reference="w", now=now, expires_at=expires_at
        )
    accounts.freeze(frozen.pk, reason="x", now=now)
    tasks.settle_waiting()
    tasks.settle_organization(frozen.pk)
    tasks.expire_credit()
    assert list(Account.objects.order_by("pk").values_list("last_sequence", flat=True)) == [0, 3]
    assert list(Grant.objects.order_by("pk").values_list("remaining_micros", flat=True)) == [9, 0]
    accounts.unfreeze(frozen.pk)
    tasks.settle_waiting()
    assert Account.objects.get(organization=frozen).last_sequence == 3


def test_what_staff_accepted_does_not_freeze_again_but_anything_new_does(acme, books, now):
    falsify()
    checks.check(acme.pk, now=now)
    checks.accept(acme.pk, now=now)
    assert not is_frozen(acme)
    assert checks.check(acme.pk, now=now) == []
    assert not is_frozen(acme)
    falsify(4_999_998)
    assert checks.check(acme.pk, now=now) != []
    assert is_frozen(acme)


def test_accepting_again_leaves_when_it_was_accepted(acme, books, now):
    falsify()
    checks.check(acme.pk, now=now)
    checks.accept(acme.pk, now=now)
    falsify(4_999_998)
    later = now + timedelta(days=1)
    checks.check(acme.pk, now=later)
    Finding.objects.filter(accepted_at=now).update(resolved_at=None)  # as if it were found beside the new ones
    checks.accept(acme.pk, now=later)
    assert Finding.objects.filter(accepted_at=now).count() == 2
    assert Finding.objects.filter(accepted_at=later).exists()


def test_what_is_put_right_before_staff_accept_is_not_accepted(acme, books, now):
    falsify()
    checks.check(acme.pk, now=now)
    falsify(5_000_000)
    checks.check(acme.pk, now=now)
    checks.accept(acme.pk, now=now)
    assert set(Finding.objects.values_list("resolved_at", "accepted_at")) == {(now, None)}


def test_who_was_never_proved_comes_first_in_the_order_of_their_accounts(acme, other, books, make_organization, now):
    checks.check(acme.pk, now=now - timedelta(days=2))
    third = make_organization("third")
    for organization in (other, third):
        accounts.open(organization=organization, now=now)
    Account.objects.filter(organization=other).update(has_card=True)  # which moves its row to the end
    assert checks.due(now=now, limit=5) == [other.pk, third.pk, acme.pk]


def test_books_are_due_again_twenty_hours_after_they_were_proved(acme, books, now):
    checks.check(acme.pk, now=now)
    again = now + timedelta(hours=20)
    assert checks.due(now=again - timedelta(microseconds=1), limit=1) == []
    assert checks.due(now=again, limit=1) == [acme.pk]


def test_what_is_found_of_one_says_nothing_of_another(acme, other, books, now):
    accounts.open(organization=other, now=now)
    Account.objects.filter(organization=other).update(last_sequence=1)
    checks.check(other.pk, now=now)
    falsify()
    checks.check(acme.pk, now=now)
    checks.accept(acme.pk, now=now)
    [finding] = Finding.objects.filter(organization=other)
    assert (finding.accepted_at, finding.resolved_at) == (None, None)


def test_a_letter_tells_of_twenty_differences_and_how_many_there_are(acme, books, now):
    Account.objects.filter(organization=acme).update(last_sequence=1)
    Period.objects.bulk_create(
        Period(organization=acme, month=month, time_zone="UTC", starts_at=month, ends_at=month + timedelta(days=1))
        for month in (datetime(2020 + number, 1, 1, tzinfo=UTC) for number in range(-20, 1))
    )
    month = datetime(2026, 1, 1, tzinfo=UTC)
    closed = {"time_zone": "UTC", "starts_at": month, "ends_at": month + timedelta(days=1), "closed_at": now}
    Period.objects.create(organization=acme, month=month, **closed)
    assert len(checks.check(acme.pk, now=now)) == 22
    letter = Letter.objects.get()
    assert "22 differences" in letter.subject
    assert letter.text.count(": expected ") == 20


def test_what_is_put_right_is_resolved_and_counts_anew_when_it_comes_back(acme, books, now):
    falsify()
    checks.check(acme.pk, now=now)
    checks.accept(acme.pk, now=now)
    falsify(5_000_000)
    assert checks.check(acme.pk, now=now) == []
    assert not Finding.objects.filter(resolved_at=None).exists()
    falsify()
    assert checks.check(acme.pk, now=now) != []


def test_f20_a_run_takes_the_longest_unproved_first_and_the_next_run_the_rest(acme, other, books, now, monkeypatch):
    accounts.open(organization=other, now=now)
    assert checks.due(now=now, limit=1) == [acme.pk]
    checks.check(acme.pk, now=now)
    assert checks.due(now=now, limit=5) == [other.pk]
    checks.check(other.pk, now=now + timedelta(hours=1))
    assert checks.due(now=now + timedelta(hours=19), limit=5) == []
    assert checks.due(now=now + timedelta(hours=30), limit=5) == [acme.pk, other.pk]
    monkeypatch.setattr("accounts.clock.now", lambda: now + timedelta(hours=30))
    falsify()
    tasks.check_books()
    assert is_frozen(acme)
    assert not is_frozen(other)


def test_the_command_exits_non_zero_on_a_difference(acme, books, capsys):
    call_command("verify_ledger")
    assert "agrees with itself" in capsys.readouterr().out
    falsify()
    with pytest.raises(CommandError, match="2 differences"):
        call_command("verify_ledger", "--organization", "acme")
    assert "acme: I2 a grant's remainder" in capsys.readouterr().out


def test_what_was_put_right_keeps_the_time_at_which_it_was(acme, books, now):
    falsify()
    checks.check(acme.pk, now=now)
    falsify(5_000_000)
    for later in (timedelta(days=1), timedelta(days=2)):
        checks.check(acme.pk, now=now + later)
    assert set(Finding.objects.values_list("resolved_at", flat=True)) == {now + timedelta(days=1)}
