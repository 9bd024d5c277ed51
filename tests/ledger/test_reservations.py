from datetime import timedelta

import pgtrigger
import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from billing_portal.ledger import (
    accounts,
    authorization,
    credits,
    journal,
    limits,
    refusals,
    reservations,
    settlement,
    standing,
    tasks,
)
from billing_portal.ledger.authorization import Reason
from billing_portal.ledger.models import Account, Direction, Grant, Refusal, RefusalHour, Reservation
from billing_portal.ledger.reservations import Wish
from tests.billing import world

pytestmark = pytest.mark.django_db
State = Reservation.State


def wish(reference="r1", micros=1_000, lasts_seconds=60, **options):
    return Wish(reference=reference, micros=micros, lasts_seconds=lasts_seconds, **options)


@pytest.fixture
def funded(acme, now):
    """Acme with a credit of 10,000 micros and no card."""
    accounts.open(organization=acme, now=now)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=10_000, reference="w", now=now)
    return acme


def let_pass(reservation):
    """Let a reservation's time be over, as waiting would."""
    with pgtrigger.ignore("ledger.Reservation:reservation_holds_what_it_held"):
        day = timedelta(days=1)
        moved = {"created_at": F("created_at") - day, "expires_at": F("expires_at") - day}
        Reservation.objects.filter(pk=reservation.pk).update(**moved)


def held(organization, now):
    return standing.of(organization.pk, now=now).held_micros


def test_what_is_reserved_is_not_available_to_others(funded, now):
    reservation, is_new = reservations.reserve(funded.pk, wish(micros=9_000), now=now)
    assert (is_new, reservation.state, reservation.currency) == (True, State.OPEN, "USD")
    decision = authorization.authorize(funded.pk, now=now)
    assert (decision.available_micros, decision.standing.held_micros) == (1_000, 9_000)
    with pytest.raises(reservations.SpendRefused) as refused:
        reservations.reserve(funded.pk, wish("r2", micros=1_001), now=now)
    assert refused.value.refused.reason == Reason.CREDIT_USED_UP
    assert refused.value.refused.available_micros == 1_000
    assert refused.value.micros == 1_001
    assert str(refused.value) == "1001 micros were asked for, 1000 are available: credit_used_up."
    reservations.reserve(funded.pk, wish("r3", micros=1_000), now=now)
    assert not authorization.authorize(funded.pk, now=now).allowed


def test_a_reservation_is_kept_and_answered_as_it_was_wished(funded, now):
    asked = wish(micros=1, lasts_seconds=90, call_id="c", direction=Direction.OUTBOUND)
    answered, _ = reservations.reserve(funded.pk, asked, now=now)
    kept = Reservation.objects.get()
    for field in Reservation._meta.concrete_fields:
        assert getattr(answered, field.attname) == getattr(kept, field.attname), field.name
    assert (kept.organization, kept.reference, kept.call_id, kept.direction) == (funded, "r1", "c", "outbound")
    assert (kept.amount_micros, kept.currency, kept.lasts_seconds) == (1, "USD", 90)
    assert kept.expires_at - kept.created_at == timedelta(seconds=90)
    assert (kept.state, kept.ended_at) == (State.OPEN, None)
    plain, _ = reservations.reserve(funded.pk, wish("plain"), now=now)
    assert (plain.direction, plain.call_id) == ("", "")
    assert (wish().content(), asked.content()) == ((1_000, 60, "", ""), (1, 90, "c", "outbound"))


def test_what_is_held_is_told_with_the_time_it_has_left_the_soonest_first(funded, other, now):
    accounts.open(organization=other, now=now)
    Account.objects.filter(organization=other).update(has_card=True)
    reservations.reserve(other.pk, wish("theirs"), now=now)
    for reference, seconds in (("long", 3_000), ("short", 1_000), ("alike", 1_000), ("over", 60), ("used", 60)):
        made, _ = reservations.reserve(funded.pk, wish(reference, micros=1, lasts_seconds=seconds), now=now)
        if reference == "over":
            let_pass(made)
    reservations.use(funded.pk, "used")
    rows, count = reservations.held(funded.pk, limit=2)
    assert ([each.reference for each, _ in rows], count) == (["short", "alike"], 3)
    rows, _ = reservations.held(funded.pk, limit=5)
    assert [each.reference for each, _ in rows] == ["short", "alike", "long"]
    for each, left in rows:
        assert timedelta(0) < timedelta(seconds=each.lasts_seconds) - left < timedelta(seconds=60)


def test_a_reservation_is_found_as_it_is_now(funded, other, now):
    made, _ = reservations.reserve(funded.pk, wish(), now=now)
    reservations.reserve(funded.pk, wish("r2"), now=now)
    assert reservations.find(funded.pk, "r1").state == State.OPEN
    let_pass(made)
    found = reservations.find(funded.pk, "r1")
    assert (found.pk, found.state) == (made.pk, State.EXPIRED)
    assert reservations.find(funded.pk, "r2").state == State.OPEN
    with pytest.raises(reservations.ReservationUnknown, match=r"^There is no reservation 'r1'\.$") as unknown:
        reservations.find(other.pk, "r1")
    assert unknown.value.reference == "r1"


def test_who_waits_for_calls_is_found_once_each(funded, other, now):
    accounts.open(organization=other, now=now)
    Account.objects.filter(organization=other).update(has_card=True)
    reservations.reserve(other.pk, wish("theirs", call_id="c"), now=now)
    reservations.reserve(funded.pk, wish("without a call"), now=now)
    assert reservations.organizations_awaiting_calls() == [other.pk]
    for reference in ("a", "b"):
        reservations.reserve(funded.pk, wish(reference, call_id=reference), now=now)
    assert reservations.organizations_awaiting_calls() == sorted([funded.pk, other.pk])
    reservations.release(other.pk, "theirs")
    assert reservations.organizations_awaiting_calls() == [funded.pk]


def test_i06_the_same_reference_is_one_reservation(funded, now):
    first, _ = reservations.reserve(funded.pk, wish(call_id="c", direction=Direction.INBOUND), now=now)
    again, is_new = reservations.reserve(funded.pk, wish(call_id="c", direction=Direction.INBOUND), now=now)
    assert (again.pk, is_new, held(funded, now)) == (first.pk, False, 1_000)


@pytest.mark.parametrize(
    "other",
    [
        {"micros": 1_001},
        {"lasts_seconds": 61},
        {"call_id": "another"},
        {"direction": Direction.OUTBOUND},
    ],
)
def test_i06_a_reference_with_other_content_is_refused_and_nothing_changes(other, funded, now):
    reservations.reserve(funded.pk, wish(), now=now)
    with pytest.raises(journal.ReferenceReused) as reused:
        reservations.reserve(funded.pk, wish(**other), now=now)
    assert reused.value.reference == "r1"
    assert (reused.value.known, reused.value.given) == (wish().content(), wish(**other).content())
    assert (held(funded, now), Refusal.objects.count()) == (1_000, 0)


def test_i16_two_organizations_may_use_the_same_reference(funded, other, now):
    accounts.open(organization=other, now=now)
    Account.objects.filter(organization=other).update(has_card=True)
    ours, _ = reservations.reserve(funded.pk, wish(), now=now)
    theirs, is_new = reservations.reserve(other.pk, wish(), now=now)
    assert is_new
    assert ours.pk != theirs.pk
    reservations.release(other.pk, "r1")
    ours.refresh_from_db()
    assert ours.state == State.OPEN


@pytest.mark.parametrize("micros", [0, -1])
def test_an_amount_of_nothing_is_refused(micros, funded, now):
    with pytest.raises(reservations.AmountNotPositive, match=f"^{micros}$"):
        reservations.reserve(funded.pk, wish(micros=micros), now=now)
    assert Reservation.objects.count() == 0


def test_f41_another_currency_is_refused(funded, now):
    with pytest.raises(reservations.CurrencyMismatch, match=r"pays in USD, not in EUR\.$") as mismatch:
        reservations.reserve(funded.pk, wish(currency="EUR"), now=now)
    assert (mismatch.value.given, mismatch.value.currency) == ("EUR", "USD")
    reservations.reserve(funded.pk, wish(currency="USD"), now=now)


def test_an_organization_without_books_is_named(acme, now):
    with pytest.raises(accounts.AccountMissing):
        reservations.reserve(acme.pk, wish(), now=now)


def test_a_frozen_account_reserves_nothing_and_lets_go_of_what_it_holds(funded, now):
    reservations.reserve(funded.pk, wish(), now=now)
    accounts.freeze(funded.pk, reason="x", now=now)
    with pytest.raises(reservations.SpendRefused) as refused:
        reservations.reserve(funded.pk, wish("r2"), now=now)
    assert refused.value.refused.reason == Reason.FROZEN
    assert reservations.release(funded.pk, "r1").state == State.RELEASED


# ── The end of a reservation ──────────────────────────────────────────────────────────────────────────────────────────

ENDS = {State.USED: reservations.use, State.RELEASED: reservations.release}


@pytest.mark.parametrize(("state", "end"), ENDS.items())
def test_i14_a_reservation_ends_once_and_ending_it_again_the_same_way_changes_nothing(state, end, funded, now):
    reservations.reserve(funded.pk, wish(), now=now)
    ended = end(funded.pk, "r1")
    assert (ended.state, held(funded, now)) == (state, 0)
    assert end(funded.pk, "r1").ended_at == ended.ended_at
    for other_state, other_end in ENDS.items():
        if other_state != state:
            with pytest.raises(
                reservations.ReservationEnded, match=rf"^The reservation r1 is {state} already\.$"
            ) as told:
                other_end(funded.pk, "r1")
            assert told.value.reservation == ended
    assert Reservation.objects.get().state == state


@pytest.mark.parametrize("end", ENDS.values())
def test_i14_what_expired_cannot_be_ended_otherwise(end, funded, now):
    reservation, _ = reservations.reserve(funded.pk, wish(), now=now)
    let_pass(reservation)
    assert held(funded, now) == 0
    with pytest.raises(reservations.ReservationExpired) as expired:
        end(funded.pk, "r1")
    assert expired.value.reservation == reservation
    reservation.refresh_from_db()
    assert (reservation.state, reservation.ended_at) == (State.EXPIRED, reservation.expires_at)


def test_i14_a_sweep_that_comes_between_has_ended_it(funded, now, monkeypatch):
    reservation, _ = reservations.reserve(funded.pk, wish(), now=now)

    def be_overtaken(found):
        Reservation.objects.filter(pk=found.pk).update(state=State.EXPIRED, ended_at=F("expires_at"))
        return found

    monkeypatch.setattr(reservations, "_expire_if_due", be_overtaken)
    with pytest.raises(reservations.ReservationExpired) as expired:
        reservations.release(funded.pk, "r1")
    assert expired.value.reservation == reservation


def test_i14_the_reference_of_an_expired_reservation_does_not_reserve_again(funded, now):
    reservation, _ = reservations.reserve(funded.pk, wish(), now=now)
    let_pass(reservation)
    with pytest.raises(reservations.ReservationExpired):
        reservations.reserve(funded.pk, wish(), now=now)
    assert Reservation.objects.get().state == State.EXPIRED


def test_the_reference_of_an_ended_reservation_tells_how_it_ended(funded, now):
    reservations.reserve(funded.pk, wish(), now=now)
    reservations.release(funded.pk, "r1")
    again, is_new = reservations.reserve(funded.pk, wish(), now=now)
    assert (again.state, is_new, held(funded, now)) == (State.RELEASED, False, 0)


def test_the_sweep_expires_what_is_due_and_nothing_else(funded, now):
    due, _ = reservations.reserve(funded.pk, wish("due"), now=now)
    reservations.reserve(funded.pk, wish("open"), now=now)
    reservations.reserve(funded.pk, wish("used"), now=now)
    let_pass(due)
    reservations.use(funded.pk, "used")
    assert reservations.expire() == 1
    assert reservations.expire() == 0
    assert dict(Reservation.objects.values_list("reference", "state")) == {
        "due": "expired",
        "open": "open",
        "used": "used",
    }


def test_so_many_expire_and_are_forgotten_at_a_time_the_first_first(funded, now, monkeypatch):
    monkeypatch.setattr(reservations, "_AT_ONCE", 1)
    monkeypatch.setattr(reservations, "_FORGOTTEN_AT_ONCE", 1)
    for reference, days in (("later", 36), ("sooner", 37)):
        made, _ = reservations.reserve(funded.pk, wish(reference), now=now)
        for _ in range(days):
            let_pass(made)
    for ended in ("sooner", "later"):
        assert reservations.expire() == 1
        assert Reservation.objects.filter(state=State.EXPIRED).order_by("-ended_at").first().reference == ended
    for left in (1, 0):
        assert reservations.forget() == 1
        assert Reservation.objects.count() == left


def test_what_ended_long_ago_is_forgotten(funded, now):
    for reference in ("old", "open"):
        reservation, _ = reservations.reserve(funded.pk, wish(reference), now=now)
        for _ in range(36):
            let_pass(reservation)
    reservations.reserve(funded.pk, wish("new"), now=now)
    reservations.release(funded.pk, "new")
    assert reservations.forget() == 0  # nothing ended yet, however old
    Reservation.objects.filter(reference="old").update(state=State.EXPIRED, ended_at=Now())
    assert reservations.forget() == 1
    assert set(Reservation.objects.values_list("reference", flat=True)) == {"open", "new"}


def test_an_unknown_reference_is_named(funded):
    with pytest.raises(reservations.ReservationUnknown, match="nowhere"):
        reservations.release(funded.pk, "nowhere")


@pytest.mark.parametrize("state", ["used", "released", "expired"])
def test_i14_the_database_ends_a_reservation_only_once(state, funded, now):
    reservations.reserve(funded.pk, wish(), now=now)
    reservations.release(funded.pk, "r1")
    for change in ({"state": state}, {"state": "open", "ended_at": None}, {"ended_at": Now()}):
        with pytest.raises(DatabaseError, match="Cannot update"), transaction.atomic():
            Reservation.objects.filter(reference="r1").update(**change)


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"state": "used"}, "reservation_is_open_or_ended"),
        ({"ended_at": Now()}, "reservation_is_open_or_ended"),
        ({"state": "gone", "ended_at": Now()}, "reservation_is_open_or_ended"),
        ({"amount_micros": 1}, "Cannot update"),
        ({"expires_at": Now() + timedelta(days=9)}, "Cannot update"),
    ],
)
def test_i14_the_database_refuses_what_is_neither_open_nor_ended(change, constraint, funded, now):
    reservations.reserve(funded.pk, wish(), now=now)
    with pytest.raises(DatabaseError, match=constraint), transaction.atomic():
        Reservation.objects.filter(reference="r1").update(**change)


def test_i14_an_open_reservation_cannot_be_deleted(funded, now):
    reservations.reserve(funded.pk, wish(), now=now)
    with pytest.raises(DatabaseError, match="Cannot delete"), transaction.atomic():
        Reservation.objects.all().delete()


def test_the_database_keeps_references_unique_and_amounts_positive(funded, now):
    reservation, _ = reservations.reserve(funded.pk, wish(), now=now)
    reservation.refresh_from_db()
    for change, constraint in (
        ({"reference": "r1"}, "reservation_reference_is_unique"),
        ({"reference": "r2", "amount_micros": 0}, "reservation_amount_is_positive"),
        ({"reference": "r2", "expires_at": reservation.created_at}, "reservation_expires_after_it_began"),
        ({"reference": "r2", "direction": "up"}, "reservation_direction_is_known"),
    ):
        copy = Reservation.objects.get(pk=reservation.pk)
        copy.pk = None
        for name, value in change.items():
            setattr(copy, name, value)
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            copy.save(force_insert=True)


def test_f25_the_databases_clock_decides_and_not_the_domains(funded, now):
    for years in (-5, 5):
        elsewhere = now.replace(year=now.year + years)
        reservation, _ = reservations.reserve(funded.pk, wish(f"r{years}"), now=elsewhere)
        reservation.refresh_from_db()
        assert reservation.expires_at - reservation.created_at == timedelta(seconds=60)
    with connection.cursor() as cursor:
        cursor.execute("SELECT abs(extract(epoch FROM statement_timestamp() - created_at)) FROM ledger_reservation")
        assert all(seconds < 60 for (seconds,) in cursor.fetchall())
    assert reservations.expire() == 0
    assert held(funded, now.replace(year=now.year + 5)) == 2_000


# ── Calls that are recorded ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def calling(priced, acme, now, monkeypatch):
    """Acme with a card, and nobody who settles behind the test's back."""
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)
    accounts.open(organization=acme, now=now.replace(day=1))
    Account.objects.filter(organization=acme).update(has_card=True)
    return acme


def test_a_recorded_call_uses_its_reservation_and_is_spent_by_then(calling, now):
    reservations.reserve(calling.pk, wish("a", micros=5_000_000, call_id="call_1_0"), now=now)
    reservations.reserve(calling.pk, wish("b", micros=5_000_000, call_id="call_of_later"), now=now)
    world.record_calls(calling, 1, starts_at=now, now=now + timedelta(hours=1))
    assert reservations.use_recorded(calling.pk, now=now) == 1
    found = standing.of(calling.pk, now=now)
    assert found.spent_micros > 0
    assert found.held_micros == 5_000_000
    assert dict(Reservation.objects.values_list("reference", "state")) == {"a": "used", "b": "open"}
    assert reservations.use_recorded(calling.pk, now=now) == 0


def test_at_no_moment_is_a_call_neither_held_nor_spent(calling, now, monkeypatch):
    reservations.reserve(calling.pk, wish("a", micros=5_000_000, call_id="call_1_0"), now=now)
    world.record_calls(calling, 1, starts_at=now, now=now + timedelta(hours=1))
    seen = []

    def look(organization_id, *, now):
        seen.append(standing.of(organization_id, now=now))
        settled = settle_all(organization_id, now=now)
        seen.append(standing.of(organization_id, now=now))
        return settled

    settle_all = settlement.settle_all
    monkeypatch.setattr(settlement, "settle_all", look)
    reservations.use_recorded(calling.pk, now=now)
    seen.append(standing.of(calling.pk, now=now))
    assert [(each.held_micros > 0, each.spent_micros > 0) for each in seen] == [
        (True, False),
        (True, True),
        (False, True),
    ]


def test_of_many_that_name_calls_those_that_end_first_come_first(calling, other, now, monkeypatch):
    monkeypatch.setattr(reservations, "_AT_ONCE", 1)
    accounts.open(organization=other, now=now)
    Account.objects.filter(organization=other).update(has_card=True)
    reservations.reserve(other.pk, wish("theirs", call_id="call_1_0", lasts_seconds=30), now=now)
    reservations.reserve(calling.pk, wish("without a call", lasts_seconds=30), now=now)
    for number, seconds in ((0, 90), (1, 60)):
        name = {"call_id": f"call_1_{number}", "lasts_seconds": seconds}
        reservations.reserve(calling.pk, wish(f"r{number}", **name), now=now)
    world.record_calls(calling, 2, starts_at=now, now=now + timedelta(hours=1))
    assert reservations.use_recorded(calling.pk, now=now) == 1
    named = Reservation.objects.filter(organization=calling).exclude(call_id="")
    assert dict(named.values_list("reference", "state")) == {"r0": "open", "r1": "used"}
    assert reservations.use_recorded(calling.pk, now=now) == 1
    assert set(named.values_list("state", flat=True)) == {"used"}


def test_i14_what_was_released_while_its_call_was_settled_stays_released(calling, now, monkeypatch):
    reservations.reserve(calling.pk, wish("a", call_id="call_1_0"), now=now)
    world.record_calls(calling, 1, starts_at=now, now=now + timedelta(hours=1))
    monkeypatch.setattr(
        settlement, "settle_all", lambda organization_id, *, now: reservations.release(organization_id, "a")
    )
    assert reservations.use_recorded(calling.pk, now=now) == 0
    assert Reservation.objects.get().state == State.RELEASED


def test_settling_uses_the_reservations_of_the_calls_it_settled(calling, now, monkeypatch):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    reservations.reserve(calling.pk, wish("a", call_id="call_1_0"), now=now)
    world.record_calls(calling, 1, starts_at=now, now=now + timedelta(hours=1))
    tasks.settle_waiting()
    assert Reservation.objects.get().state == State.USED


def test_f20_the_sweep_finds_recorded_calls_that_nobody_told_of(calling, now, monkeypatch):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    late, _ = reservations.reserve(calling.pk, wish("late", call_id="call_1_0"), now=now)
    due, _ = reservations.reserve(calling.pk, wish("due", call_id="call_never"), now=now)
    world.record_calls(calling, 1, starts_at=now, now=now + timedelta(hours=1))
    settlement.settle_all(calling.pk, now=now)
    let_pass(late)
    let_pass(due)
    tasks.sweep_reservations()
    assert dict(Reservation.objects.values_list("reference", "state")) == {"late": "used", "due": "expired"}


def test_i16_a_call_of_another_organization_uses_nothing(calling, other, now):
    accounts.open(organization=other, now=now)
    reservations.reserve(calling.pk, wish("a", call_id="call_1_0"), now=now)
    world.record_calls(other, 1, starts_at=now, now=now + timedelta(hours=1))
    assert reservations.use_recorded(calling.pk, now=now) == 0


def test_a_cap_holds_against_what_is_spent_and_held_together(calling, now):
    world.settled(calling, {"platform": 900}, month=now.date().replace(day=1))
    limits.set(calling.pk, limits.Terms(cap_micros=1_000), by=None, now=now)
    reservations.reserve(calling.pk, wish("a", micros=60), now=now)
    with pytest.raises(reservations.SpendRefused) as refused:
        reservations.reserve(calling.pk, wish("b", micros=41), now=now)
    assert refused.value.refused.reason == Reason.SPEND_CAP
    reservations.reserve(calling.pk, wish("c", micros=40), now=now)
    limits.set(calling.pk, limits.Terms(cap_micros=1_000, inbound_percent=110), by=None, now=now)
    reservations.reserve(calling.pk, wish("d", micros=100, direction=Direction.INBOUND), now=now)


# ── Refused calls ─────────────────────────────────────────────────────────────────────────────────────────────────────


def refuse(organization, call_id, now):
    refused = authorization.authorize(organization.pk, now=now)
    refusals.record(refused, call_id=call_id, direction=Direction.OUTBOUND, now=now)


def test_a_refused_reservation_is_kept_as_a_refused_call(funded, now):
    for name, options in (("by call", {"call_id": "call_7", "direction": Direction.INBOUND}), ("by reference", {})):
        with pytest.raises(reservations.SpendRefused):
            reservations.reserve(funded.pk, wish(name, micros=10_001, **options), now=now)
    refused = {each.call_id: each for each in refusals.newest(funded.pk, limit=10)}
    assert refused.keys() == {"call_7", "by reference"}
    assert (refused["call_7"].reason, refused["call_7"].amount_micros) == ("credit_used_up", 10_001)
    assert [refused[each].direction for each in ("call_7", "by reference")] == ["inbound", ""]


def test_i06_a_call_refused_again_is_one_refused_call(acme, now):
    accounts.open(organization=acme, now=now)
    for minutes in (0, 1, 2):
        refuse(acme, "call_1", now + timedelta(minutes=minutes))
    [refusal] = refusals.newest(acme.pk, limit=10)
    assert (refusal.times, refusal.first_at, refusal.last_at) == (3, now, now + timedelta(minutes=2))
    assert RefusalHour.objects.get().calls == 1


def test_beyond_an_hours_limit_refused_calls_are_counted_and_not_listed(acme, now, monkeypatch):
    monkeypatch.setattr(refusals, "LISTED_AN_HOUR", 3)
    accounts.open(organization=acme, now=now)
    for number in range(5):
        refuse(acme, f"call_{number}", now)
    refuse(acme, "call_1", now)
    assert len(refusals.newest(acme.pk, limit=10)) == 3
    [hour] = refusals.unlisted(acme.pk, since=now - timedelta(days=1))
    assert (hour.calls, hour.unlisted) == (5, 2)
    refuse(acme, "call_next_hour", now + timedelta(hours=1))
    assert len(refusals.newest(acme.pk, limit=10)) == 4
    # An hour is full after its third call, not before it, and those that were not full are not told.
    assert list(RefusalHour.objects.order_by("hour_at").values_list("calls", "unlisted")) == [(5, 2), (1, 0)]
    for number in range(4):
        refuse(acme, f"later_{number}", now + timedelta(hours=2))
    hour_at = now.replace(minute=0) + timedelta(hours=2)
    told = refusals.unlisted(acme.pk, since=now - timedelta(days=1))
    assert [(each.hour_at, each.calls, each.unlisted) for each in told] == [
        (hour_at, 4, 1),
        (now.replace(minute=0), 5, 2),
    ]
    assert [each.hour_at for each in refusals.unlisted(acme.pk, since=hour_at)] == [hour_at]
    assert refusals.unlisted(acme.pk, since=hour_at + timedelta(seconds=1)) == []


def test_a_refused_call_is_kept_as_it_was_asked_for_and_then_as_it_was_last(acme, other, now):
    accounts.open(organization=other, now=now)
    accounts.open(organization=acme, now=now)
    refusals.record(authorization.authorize(acme.pk, now=now), call_id="c", now=now)
    refuse(other, "c", now)
    [kept] = refusals.newest(acme.pk, limit=5)
    assert (kept.direction, kept.reason, kept.amount_micros, kept.times) == ("", "credit_used_up", None, 1)
    accounts.freeze(acme.pk, reason="x", now=now)
    later = now + timedelta(minutes=5)
    refused = authorization.authorize(acme.pk, now=later)
    refusals.record(refused, call_id="c", direction=Direction.INBOUND, micros=7, now=later)
    [kept] = refusals.newest(acme.pk, limit=5)
    assert (kept.reason, kept.amount_micros, kept.times) == ("frozen", 7, 2)
    assert (kept.first_at, kept.last_at) == (now, later)
    assert refusals.newest(other.pk, limit=5)[0].times == 1
    assert refusals.newest(other.pk, limit=5)[0].direction == "outbound"


def test_refused_calls_are_paged_by_the_place_of_the_last(acme, other, now):
    for organization in (acme, other):
        accounts.open(organization=organization, now=now)
        for number in range(5):
            refuse(organization, f"{organization}_{number}", now + timedelta(seconds=number // 2))
    first = refusals.newest(acme.pk, limit=3)
    rest = refusals.newest(acme.pk, limit=3, before=(first[-1].last_at, first[-1].pk))
    assert [each.call_id for each in [*first, *rest]] == [f"{acme}_{number}" for number in (4, 3, 2, 1, 0)]
