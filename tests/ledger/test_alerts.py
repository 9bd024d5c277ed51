import threading
from dataclasses import replace
from datetime import date, timedelta

import pytest
from django.core import mail
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts import letters, posting
from accounts.models import Letter
from billing_portal.ledger import accounts, alerts, credits, limits, reversals, settlement, standing, tasks
from billing_portal.ledger.alerts import Terms
from billing_portal.ledger.models import Alert, AlertSettings, Grant, MonthSpend
from tests.billing import world

pytestmark = pytest.mark.django_db
OCTOBER = date(2026, 10, 1)


@pytest.fixture
def capped(acme, now):
    """Acme with books and a cap of 1,000 micros."""
    accounts.open(organization=acme, now=now)
    limits.set(acme.pk, limits.Terms(cap_micros=1_000), by=None, now=now)
    return acme


def spend(organization, micros, *, month=OCTOBER):
    world.settled(organization, {"platform": micros}, month=month)


def told(organization):
    rows = Alert.objects.filter(organization=organization, is_quiet=False).order_by("id")
    return [(alert.gauge, alert.period, alert.percent) for alert in rows]


def test_each_threshold_is_told_once_as_spend_grows(capped, now):
    for micros, expected in ((499, []), (1, [50]), (100, [50]), (200, [50, 80]), (400, [50, 80, 100])):
        spend(capped, micros)
        alerts.check(capped.pk, now=now)
        assert alerts.check(capped.pk, now=now) == []  # I6: again changes nothing
        assert [percent for _, _, percent in told(capped)] == expected
    assert Letter.objects.count() == 3


def test_of_several_passed_at_once_only_the_highest_is_told(capped, now):
    spend(capped, 950)
    [alert] = alerts.check(capped.pk, now=now)
    assert (alert.percent, alert.threshold, alert.base, alert.used) == (90, 900, 1_000, 950)
    assert Alert.objects.count() == 3
    assert alerts.check(capped.pk, now=now) == []


def test_an_alert_is_kept_with_all_it_was_raised_on_and_told_in_a_letter(capped, now):
    spend(capped, 850)
    later = now + timedelta(hours=1)
    [told_of] = alerts.check(capped.pk, now=later)
    quiet, alert = Alert.objects.order_by("percent")
    assert (quiet.percent, quiet.threshold, quiet.is_quiet, quiet.recipients) == (50, 500, True, [])
    assert (told_of, alert.percent, alert.is_quiet, alert.raised_at) == (alert, 80, False, later)
    assert (alert.gauge, alert.period, alert.base, alert.used) == ("spend", "2026-10", 1_000, 850)
    assert quiet.raised_at == later
    letter = Letter.objects.get()
    assert (letter.reference, letter.organization) == (alert.letter_reference, capped)
    assert alert.recipients == letters.billing_addresses(capped)
    assert "$0.00" in letter.text


def test_a_threshold_is_passed_at_the_whole_unit_at_or_above_it_and_the_highest_of_one_amount_counts():
    reading = alerts.Reading(Alert.Gauge.SPEND, "2026-10", used=5, base=9, percents=(50, 55, 56, 100, 10))
    assert alerts.passed(reading) == {10: 1, 55: 5}  # 4.5 and 4.95 round up to 5, as 56 % does to 6
    assert alerts.passed(replace(reading, used=4)) == {10: 1}
    assert alerts.passed(replace(reading, used=9)) == {10: 1, 55: 5, 56: 6, 100: 9}


def test_a_gauge_that_measures_nothing_shows_nothing(acme, other, now):
    accounts.open(organization=acme, now=now)
    found = standing.of(acme.pk, now=now)
    assert alerts.readings(found, Terms()) == []
    assert alerts.readings(replace(found, cap_micros=0), Terms()) == []
    [reading] = alerts.readings(replace(found, cap_micros=1), Terms(spend_percents=(1,)))
    assert (reading.gauge, reading.used, reading.base, reading.percents) == ("spend", 0, 1, (1,))
    # A budget goes before a cap.
    [reading] = alerts.readings(replace(found, cap_micros=5), Terms(budget_micros=3))
    assert (reading.base, reading.percents) == (3, alerts.DEFAULT_PERCENTS)


def test_credit_is_read_from_the_newest_grant_of_ones_own(acme, other, now):
    for organization in (acme, other):
        accounts.open(organization=organization, now=now)
    give = {"kind": Grant.Kind.GOODWILL, "now": now}
    older = credits.grant(organization=acme, micros=100, reference="a", **give)
    credits.grant(organization=other, micros=7, reference="b", **give)
    newer = credits.grant(organization=acme, micros=50, reference="b", **give)
    # What is taken back was never used.
    reversals.reverse_grant(organization=acme, grant_id=older.pk, reason="r", reference="r", now=now)
    [reading] = alerts.readings(standing.of(acme.pk, now=now), Terms(credit_percents=(5,)))
    assert (reading.gauge, reading.period, reading.percents) == ("credit", f"grant:{newer.pk}", (5,))
    assert (reading.used, reading.base) == (0, 50)
    Grant.objects.filter(pk=newer.pk).update(reference="nothing posted")
    assert alerts.readings(standing.of(acme.pk, now=now), Terms()) == []


def test_welcome_credit_that_is_taken_back_whole_is_not_told_of_as_used(acme, now):
    accounts.open(organization=acme, now=now)
    welcome = credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=10_000_000, reference="w", now=now)
    reversals.reverse_grant(organization=acme, grant_id=welcome.pk, reason="One card earns one", reference="r", now=now)
    assert alerts.check(acme.pk, now=now) == []
    assert told(acme) == []


def test_the_settings_are_kept_in_order_once_each_with_who_set_them(capped, other, alice, now):
    accounts.open(organization=other, now=now)
    alerts.set(other.pk, Terms(budget_micros=9), by=None, now=now)
    assert alerts.terms_of(capped.pk) == Terms()
    wanted = Terms(
        spend_percents=(90, 10, 90), credit_percents=(7, 5), budget_micros=8, recipients=("b@x.example", "a@x.example")
    )
    for by, at in ((None, now), (alice, now + timedelta(hours=1))):
        alerts.set(capped.pk, wanted, by=by, now=at)
    assert alerts.terms_of(capped.pk) == replace(wanted, spend_percents=(10, 90), credit_percents=(5, 7))
    kept = AlertSettings.objects.get(organization=capped)
    assert (kept.set_by, kept.set_at) == (alice, now + timedelta(hours=1))


def test_who_is_frozen_is_told_all_the_same_and_who_has_no_books_is_named(capped, other, now):
    accounts.freeze(capped.pk, reason="x", now=now)
    alerts.set(capped.pk, Terms(), by=None, now=now)
    spend(capped, 500)
    assert [alert.percent for alert in alerts.check(capped.pk, now=now)] == [50]
    for verb in (lambda: alerts.check(other.pk, now=now), lambda: alerts.set(other.pk, Terms(), by=None, now=now)):
        with pytest.raises(accounts.AccountMissing):
            verb()


def test_who_changed_is_found_once_the_newest_month_first_and_no_more_than_asked_for(capped, other, now):
    accounts.open(organization=other, now=now)
    spend(capped, 1)
    spend(capped, 1, month=date(2026, 9, 1))
    spend(other, 1, month=date(2026, 11, 1))
    assert alerts.due(limit=5) == [other.pk, capped.pk]
    assert alerts.due(limit=1) == [other.pk]
    alerts.check(other.pk, now=now)
    assert alerts.due(limit=5) == [capped.pk]


def test_of_those_of_one_month_the_first_comes_first(make_organization, now):
    made = [make_organization(name) for name in ("a", "b", "c")]
    for organization in reversed(made):
        accounts.open(organization=organization, now=now)
        spend(organization, 1)
    assert alerts.due(limit=5) == [organization.pk for organization in made]


def test_what_a_correction_took_back_is_checked_once_too(capped, now):
    spend(capped, 400)
    MonthSpend.objects.update(given_back_micros=150)
    assert alerts.check(capped.pk, now=now) == []
    assert alerts.due(limit=5) == []
    assert MonthSpend.objects.get().checked_micros == 250
    MonthSpend.objects.update(given_back_micros=160)
    assert alerts.due(limit=5) == [capped.pk]


def test_without_anything_new_no_lock_is_taken(capped, make_organization, now):
    """The settlement of a call takes the lock; to find that no threshold was passed must not take it again."""
    spend(capped, 600)
    alerts.check(capped.pk, now=now)
    with CaptureQueriesContext(connection) as queries:
        assert alerts.check(capped.pk, now=now) == []
    assert not any("FOR UPDATE" in query["sql"] for query in queries)
    # Nor does it help that another has been told of as much.
    twin = make_organization("twin")
    accounts.open(organization=twin, now=now)
    limits.set(twin.pk, limits.Terms(cap_micros=1_000), by=None, now=now)
    spend(twin, 600)
    assert [alert.percent for alert in alerts.check(twin.pk, now=now)] == [50]


def test_each_gauge_remembers_its_own_thresholds(capped, now):
    """A threshold is an amount: the same one of another gauge and month is another."""
    spend(capped, 500)
    alerts.check(capped.pk, now=now)
    known = Alert.objects.get()
    Alert.objects.bulk_create(
        [
            Alert(
                organization=capped,
                gauge=gauge,
                period=period,
                percent=80,
                threshold=800,
                base=1_000,
                used=800,
                raised_at=now,
                is_quiet=False,
                recipients=[],
            )
            for gauge, period in (("credit", known.period), ("spend", "2026-09"))
        ]
    )
    spend(capped, 300)
    assert [alert.percent for alert in alerts.check(capped.pk, now=now)] == [80]


def test_nothing_is_told_below_what_was_told_already(capped, now):
    spend(capped, 950)
    alerts.check(capped.pk, now=now)
    Letter.objects.all().delete()
    alerts.set(capped.pk, Terms(spend_percents=(90,)), by=None, now=now)
    AlertSettings.objects.update(spend_percents=[60, 70, 90])  # as if they had come without `set`
    assert alerts.check(capped.pk, now=now) == []
    assert Letter.objects.count() == 0
    assert set(Alert.objects.filter(percent__in=(60, 70)).values_list("percent", "is_quiet")) == {
        (60, True),
        (70, True),
    }


def test_a_new_month_begins_anew(capped, now):
    spend(capped, 600)
    alerts.check(capped.pk, now=now)
    spend(capped, 600, month=date(2026, 11, 1))
    alerts.check(capped.pk, now=now + timedelta(days=30))
    assert told(capped) == [("spend", "2026-10", 50), ("spend", "2026-11", 50)]


def test_a_budget_is_told_of_where_there_is_no_cap(acme, now):
    accounts.open(organization=acme, now=now)
    spend(acme, 600)
    assert alerts.check(acme.pk, now=now) == []
    alerts.set(acme.pk, Terms(budget_micros=1_000, spend_percents=(70, 65)), by=None, now=now)
    assert alerts.check(acme.pk, now=now) == []
    spend(acme, 60)
    assert [alert.percent for alert in alerts.check(acme.pk, now=now)] == [65]


def test_what_is_passed_when_a_threshold_is_set_is_not_told(capped, now):
    spend(capped, 600)
    alerts.set(capped.pk, Terms(spend_percents=(10, 50, 70)), by=None, now=now)
    assert alerts.check(capped.pk, now=now) == []
    spend(capped, 100)
    assert Letter.objects.count() == 0
    assert set(Alert.objects.values_list("percent", "is_quiet")) == {(10, True), (50, True)}
    assert [alert.percent for alert in alerts.check(capped.pk, now=now)] == [70]


def test_credit_is_measured_against_what_there_was_when_the_last_came_in(with_calls, now, monkeypatch):
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)
    acme = with_calls("acme", 20)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=1_000_000, reference="w", now=now)
    settlement.settle(acme.pk, now=now, limit=4)
    alerts.check(acme.pk, now=now)
    before = told(acme)
    settlement.settle_all(acme.pk, now=now)
    alerts.check(acme.pk, now=now)
    assert ("credit", f"grant:{Grant.objects.get().pk}", 100) in told(acme)
    later = credits.grant(organization=acme, kind=Grant.Kind.PREPAID, micros=10**9, reference="p", now=now)
    assert alerts.check(acme.pk, now=now) == []
    [reading] = alerts.readings(alerts.standing.of(acme.pk, now=now), Terms())
    assert (reading.period, reading.used, reading.base) == (f"grant:{later.pk}", 0, 10**9)
    assert before == [] or before[0][0] == "credit"


def test_the_letter_goes_to_everyone_named_and_says_what_to_do(capped, now, django_capture_on_commit_callbacks):
    alerts.set(capped.pk, Terms(recipients=("fin@acme.example", "cto@acme.example")), by=None, now=now)
    spend(capped, 800)
    with django_capture_on_commit_callbacks(execute=True):
        alerts.check(capped.pk, now=now)
    assert sorted(message.to[0] for message in mail.outbox) == ["cto@acme.example", "fin@acme.example"]
    message = mail.outbox[0]
    assert "80%" in message.subject
    assert "Acme Robotics" in message.subject
    assert f"/o/{capped.public_id}/limits/" in message.body


def test_without_recipients_those_who_read_about_money_are_told(capped, now):
    spend(capped, 500)
    [alert] = alerts.check(capped.pk, now=now)
    assert alert.recipients == letters.billing_addresses(capped)


def test_f13_a_crash_before_the_commit_leaves_neither_row_nor_letter_and_the_sweep_tells(capped, now, monkeypatch):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    spend(capped, 500)

    def crash(**_):
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr(letters, "write", crash)
        with pytest.raises(RuntimeError), transaction.atomic():
            alerts.check(capped.pk, now=now)
    assert (Alert.objects.count(), Letter.objects.count()) == (0, 0)
    tasks.sweep_alerts()
    tasks.sweep_alerts()
    assert (len(told(capped)), Letter.objects.count()) == (1, 1)
    assert alerts.due(limit=5) == []


def test_f20_letters_that_the_broker_lost_are_sent_once_by_the_sweep(capped, now):
    spend(capped, 500)
    alerts.check(capped.pk, now=now)  # nothing is sent: this transaction never commits
    assert mail.outbox == []
    assert posting.post(Letter.objects.all(), now=now) == 1
    assert posting.post(Letter.objects.all(), now=now) == 0
    assert len(mail.outbox) == 1


def test_the_sweep_finds_what_changed_and_only_that(capped, now):
    spend(capped, 10)
    assert alerts.due(limit=5) == [capped.pk]
    alerts.check(capped.pk, now=now)
    assert alerts.due(limit=5) == []
    spend(capped, 10, month=date(2026, 9, 1))
    assert alerts.due(limit=5) == [capped.pk]
    alerts.check(capped.pk, now=now)
    assert alerts.due(limit=5) == []
    assert MonthSpend.objects.count() == 2


def test_settling_checks_the_alerts(with_calls, now, monkeypatch):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)
    acme = with_calls("acme", 5)
    limits.set(acme.pk, limits.Terms(cap_micros=1), by=None, now=now)
    tasks.settle_waiting()
    assert told(acme) == [("spend", "2026-10", 100)]


def test_an_alert_is_raised_once_and_kept(capped, now):
    spend(capped, 500)
    [alert] = alerts.check(capped.pk, now=now)
    with pytest.raises(DatabaseError, match="Cannot update or delete"), transaction.atomic():
        Alert.objects.filter(pk=alert.pk).update(percent=1)
    alert.pk = None
    with pytest.raises(IntegrityError, match="alert_is_raised_once"), transaction.atomic():
        alert.save(force_insert=True)


@pytest.mark.django_db(transaction=True)
def test_i06_eight_checks_at_once_tell_once(acme, now):
    accounts.open(organization=acme, now=now)
    limits.set(acme.pk, limits.Terms(cap_micros=1_000), by=None, now=now)
    spend(acme, 850)
    together, failures = threading.Barrier(8), []

    def check():
        try:
            together.wait(30)
            alerts.check(acme.pk, now=now)
        except Exception as failure:
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=check) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert told(acme) == [("spend", "2026-10", 80)]
    assert Letter.objects.count() == 1


def test_i16_a_grant_is_not_taken_for_another_organizations_of_the_same_reference(acme, other, now):
    for organization in (other, acme):
        accounts.open(organization=organization, now=now)
        credits.grant(organization=organization, kind=Grant.Kind.GOODWILL, micros=10, reference="g", now=now)
    credits.grant(organization=other, kind=Grant.Kind.GOODWILL, micros=7, reference="later", now=now)
    [reading] = alerts.readings(standing.of(acme.pk, now=now), Terms())
    assert (reading.gauge, reading.used, reading.base) == ("credit", 0, 10)
