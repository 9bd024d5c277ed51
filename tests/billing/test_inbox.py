"""Handling events: any order, any number of times, any crash, with the same result."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import djstripe.models as djstripe
import pytest
from django.db import Error as DatabaseFailure
from django.db import connection
from django.test import override_settings

from accounts.models import Organization
from billing_portal.billing import gateway, inbox, locks, mirror, receivers
from billing_portal.billing.models import Customer, InboxEvent, Invoice
from tests.billing.at_stripe import pay_an_invoice
from tests.billing.world import ANCHOR, MIDMONTH
from tests.stripe.conftest import RunningSandbox

NOW = MIDMONTH + timedelta(hours=1)
Subscribed = Callable[..., Organization]
State = InboxEvent.State


@pytest.fixture
def arrive() -> Callable[..., InboxEvent]:
    """Store an event about a Stripe object, as the webhook does."""
    numbers = itertools.count(1)

    def arrive(event_type: str, subject: gateway.Object, **changes: Any) -> InboxEvent:
        payload = {
            "id": f"evt_{next(numbers)}",
            "object": "event",
            "type": event_type,
            "api_version": "2026-05-27.dahlia",
            "created": int(MIDMONTH.timestamp()),
            "livemode": False,
            "data": {"object": subject},
            **changes,
        }
        event_id = inbox.record(payload)
        return InboxEvent.objects.get(pk=event_id)

    return arrive


Arrive = Callable[..., InboxEvent]


@pytest.fixture
def customer(stripe: RunningSandbox) -> gateway.Object:
    return gateway.create("customers", {"name": "Acme"}, "customer")


@pytest.fixture
def receive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[..., Any]], None]]:
    """Make a function the receiver of `customer.updated`."""

    def receive(function: Callable[..., Any]) -> None:
        monkeypatch.setitem(receivers.RECEIVERS, "customer.updated", function)

    return receive


def keep_in(seen: list[gateway.Object]) -> Callable[..., None]:
    """Return a receiver that keeps what it is given."""

    def keep(subject: gateway.Object, *, now: datetime) -> None:
        seen.append(subject)

    return keep


def state_of(event: InboxEvent) -> str:
    event.refresh_from_db()
    return event.state


# One event


def test_the_object_is_fetched_mirrored_and_received(arrive: Arrive, customer: gateway.Object, receive: Any) -> None:
    seen = []
    receive(lambda subject, *, now: seen.append((subject, now, connection.in_atomic_block)))
    event = arrive("customer.updated", customer | {"name": "As it was"})
    assert inbox.handle(event.pk, now=NOW) == 1
    assert seen == [(customer, NOW, True)]
    assert djstripe.Customer.objects.get().name == "Acme"
    assert (state_of(event), event.finished_at, event.attempts) == (State.DONE, NOW, 1)


def test_f1_a_handled_event_is_not_handled_again(arrive: Arrive, customer: gateway.Object, receive: Any) -> None:
    seen: list[gateway.Object] = []
    receive(keep_in(seen))
    event = arrive("customer.updated", customer)
    assert [inbox.handle(event.pk, now=NOW) for _ in range(3)] == [1, 0, 0]
    assert len(seen) == 1


def test_f1_twenty_workers_at_once_handle_an_event_once(arrive: Arrive, customer: gateway.Object, receive: Any) -> None:
    seen: list[gateway.Object] = []
    receive(keep_in(seen))
    event = arrive("customer.updated", customer)

    def work() -> None:
        inbox.handle(event.pk, now=NOW)
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(seen) == 1
    assert state_of(event) == State.DONE


def test_f2_two_events_for_one_fact_show_the_same_object_twice(
    arrive: Arrive, customer: gateway.Object, receive: Any
) -> None:
    seen = []
    receive(lambda subject, *, now: seen.append(subject["id"]))
    for _ in range(2):
        inbox.handle(arrive("customer.updated", customer).pk, now=NOW)
    assert seen == [customer["id"]] * 2
    assert djstripe.Customer.objects.count() == 1


def test_f8_an_unknown_type_is_ignored(arrive: Arrive, stripe: RunningSandbox) -> None:
    event = arrive("something.new", {"id": "new_1", "object": "something.new"})
    inbox.handle_waiting(now=NOW)
    assert state_of(event) == State.IGNORED


def test_f12_a_thin_event_is_ignored(stripe: RunningSandbox) -> None:
    thin = {"id": "evt_t", "object": "v2.core.event", "type": "v2.core.x", "created": "2027-02-10T09:30:00Z"}
    inbox.record(thin)
    inbox.handle_waiting(now=NOW)
    assert InboxEvent.objects.get().state == State.IGNORED


def test_f10_another_api_version_is_parked_and_may_be_replayed_by_a_person(
    arrive: Arrive, customer: gateway.Object
) -> None:
    event = arrive("customer.updated", customer, api_version="2020-08-27")
    inbox.handle_waiting(now=NOW)
    assert state_of(event) == State.PARKED
    assert not djstripe.Customer.objects.exists()
    inbox.replay(event)
    inbox.handle_waiting(now=NOW)
    assert state_of(event) == State.DONE


@pytest.mark.parametrize("changes", [{"livemode": True}, {"account": "acct_other"}])
def test_f11_another_mode_or_account_has_no_effect_even_when_replayed(
    arrive: Arrive, customer: gateway.Object, changes: dict[str, Any]
) -> None:
    event = arrive("customer.updated", customer, **changes)
    inbox.replay(event)
    inbox.handle_waiting(now=NOW)
    assert state_of(event) == State.PARKED
    assert not djstripe.Customer.objects.exists()


def test_an_object_that_is_gone_comes_as_deleted(arrive: Arrive, stripe: RunningSandbox, receive: Any) -> None:
    seen: list[gateway.Object] = []
    receive(keep_in(seen))
    inbox.handle(arrive("customer.updated", {"id": "cus_gone", "object": "customer"}).pk, now=NOW)
    assert seen == [{"id": "cus_gone", "object": "customer", "deleted": True}]


# Failures


def test_f13_a_receiver_that_crashes_midway_is_rolled_back_and_retried(
    arrive: Arrive, customer: gateway.Object, receive: Any, acme: Organization
) -> None:
    crashes = iter([True, False])

    def crash_once(subject: gateway.Object, *, now: datetime) -> None:
        Organization.objects.update(name="Half done")
        if next(crashes):
            raise RuntimeError("midway")
        Organization.objects.update(name="Done")

    receive(crash_once)
    event = arrive("customer.updated", customer)
    assert inbox.handle(event.pk, now=NOW) == 0
    acme.refresh_from_db()
    assert acme.name == "Acme Robotics"
    assert (state_of(event), event.attempts, event.reason) == (State.RECEIVED, 1, "RuntimeError: midway")
    assert NOW < event.retry_at <= NOW + inbox.FIRST_RETRY
    assert inbox.handle_waiting(now=NOW) == 0
    assert inbox.handle_waiting(now=NOW + inbox.FIRST_RETRY) == 1
    acme.refresh_from_db()
    assert acme.name == "Done"
    assert (state_of(event), event.reason, event.retry_at) == (State.DONE, "", None)


def test_f24_a_poison_event_is_parked_while_others_go_on(
    arrive: Arrive, customer: gateway.Object, receive: Any
) -> None:
    def refuse_poison(subject: gateway.Object, *, now: datetime) -> None:
        if subject["metadata"].get("poison"):
            raise RuntimeError("poison")

    receive(refuse_poison)
    poisoned = gateway.create("customers", {"metadata": {"poison": "yes"}}, "poison")
    poison = arrive("customer.updated", poisoned)
    others = [arrive("customer.created", poisoned), arrive("customer.updated", customer)]
    waits = []
    moment = NOW
    for _ in range(inbox.ATTEMPTS):
        inbox.handle_waiting(now=moment)
        poison.refresh_from_db()
        if poison.retry_at:
            waits.append(poison.retry_at - moment)
            moment = poison.retry_at
    assert [state_of(event) for event in others] == [State.DONE, State.DONE]
    assert (poison.state, poison.attempts, poison.reason) == (State.PARKED, inbox.ATTEMPTS, "RuntimeError: poison")
    assert waits[-1] > waits[0] * 10
    assert max(waits) <= inbox.LONGEST_RETRY


def test_stripes_own_trouble_parks_nothing(arrive: Arrive, customer: gateway.Object, stripe: RunningSandbox) -> None:
    event = arrive("customer.updated", customer)
    stripe.faults(fail_next={"count": 50, "status": 503})
    moment = NOW
    for _ in range(inbox.ATTEMPTS + 3):
        inbox.handle_waiting(now=moment)
        event.refresh_from_db()
        moment = event.retry_at
    assert event.state == State.RECEIVED
    stripe.faults(fail_next={})
    inbox.handle_waiting(now=moment)
    assert state_of(event) == State.DONE


def test_a_replayed_event_starts_afresh(arrive: Arrive, customer: gateway.Object) -> None:
    event = arrive("customer.updated", customer)
    InboxEvent.objects.update(state=State.PARKED, attempts=8, reason="poison", finished_at=NOW)
    inbox.replay(event)
    assert list(inbox.waiting(10, NOW)) == [event]
    inbox.handle_waiting(now=NOW)
    assert (state_of(event), event.attempts, event.reason) == (State.DONE, 1, "")


# One customer at a time


def test_a_customer_somebody_is_at_work_for_is_left_to_them(
    arrive: Arrive, customer: gateway.Object, stripe: RunningSandbox
) -> None:
    event = arrive("customer.updated", customer)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with locks.attempt(f"inbox:{customer['id']}"):
            held.set()
            release.wait(10)
        connection.close()

    other = threading.Thread(target=hold)
    other.start()
    held.wait(10)
    try:
        assert inbox.handle(event.pk, now=NOW) == 0
    finally:
        release.set()
        other.join()
    assert state_of(event) == State.RECEIVED
    assert inbox.handle(event.pk, now=NOW) == 1


def test_who_handles_one_event_also_handles_what_arrives_meanwhile(
    arrive: Arrive, customer: gateway.Object, receive: Any
) -> None:
    late = []

    def receive_and_let_arrive(subject: gateway.Object, *, now: datetime) -> None:
        if not late:
            late.append(arrive("customer.updated", customer))

    receive(receive_and_let_arrive)
    assert inbox.handle(arrive("customer.updated", customer).pk, now=NOW) == 2
    assert state_of(late[0]) == State.DONE


def test_an_older_fetch_never_overwrites_a_newer_state(
    arrive: Arrive, customer: gateway.Object, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = mirror.copy
    renamed = []

    def rename_after_fetch(subject: gateway.Object) -> None:
        if not renamed:
            renamed.append(gateway.update("customers", customer["id"], {"name": "New"}, "rename"))
            later = arrive("customer.updated", renamed[0])
            thread = threading.Thread(target=lambda: (inbox.handle(later.pk, now=NOW), connection.close()))
            thread.start()
            thread.join()
        copy(subject)

    monkeypatch.setattr(mirror, "copy", rename_after_fetch)
    inbox.handle(arrive("customer.updated", customer).pk, now=NOW)
    assert djstripe.Customer.objects.get().name == "New"
    assert not InboxEvent.objects.exclude(state=State.DONE).exists()


# Order and absence


@pytest.fixture
def paid(stripe: RunningSandbox, subscribed: Subscribed) -> list[gateway.Object]:
    """Return all events of an invoice from draft to paid, in Stripe's order."""
    customer = Customer.objects.get(organization=subscribed("acme")).stripe_customer_id
    before = {event["id"] for event in gateway.list_all("events")}
    pay_an_invoice(customer)
    events = [event for event in gateway.list_all("events") if event["id"] not in before]
    return [event for event in events[::-1] if event["type"].startswith("invoice.")]


def outcome() -> list[Any]:
    assert not InboxEvent.objects.exclude(state=State.DONE).exists(), list(InboxEvent.objects.values("type", "reason"))
    ours = Invoice.objects.values("state", "total_minor", "amount_paid_minor", "number").get()
    return [ours, djstripe.Invoice.objects.values("stripe_data").get()]


def forget_everything() -> None:
    """Empty the tables; rows of final invoices cannot be deleted one by one."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE billing_invoice, billing_inboxevent, djstripe_invoice CASCADE")


def test_f3_any_order_of_up_to_six_events_has_the_same_result(paid: list[gateway.Object]) -> None:
    assert len(paid) >= 4
    expected = None
    orders = [*itertools.permutations(paid[:4]), tuple(paid[-6:]), tuple(paid[-6:][::-1])]
    for order in orders:
        forget_everything()
        for event in order:
            inbox.record(event)
            inbox.handle_waiting(now=NOW)
        found = outcome()
        expected = expected or found
        assert found == expected
        assert found[0]["state"] == Invoice.State.PAID


def test_f4_after_72_hours_without_an_endpoint_the_sweep_catches_up_exactly(
    stripe: RunningSandbox, paid: list[gateway.Object]
) -> None:
    for event in paid[:2]:
        inbox.record(event)
    later = MIDMONTH + timedelta(hours=72)
    every = len(list(gateway.list_all("events")))
    assert inbox.catch_up(later) == every - 2
    assert inbox.catch_up(later) == 0
    inbox.handle_waiting(now=later)
    left = InboxEvent.objects.exclude(state__in=[State.DONE, State.IGNORED])
    assert not left.exists(), list(left.values("type", "reason"))
    assert Invoice.objects.get().state == Invoice.State.PAID


def test_f4_swept_events_of_the_accounts_own_version_are_taken(stripe: RunningSandbox) -> None:
    event = {
        "id": "evt_1",
        "object": "event",
        "type": "customer.updated",
        "api_version": "2020-08-27",
        "created": 1_800_000_000,
        "livemode": False,
        "data": {"object": {"id": "cus_1", "object": "customer"}},
    }
    inbox.record(event, is_swept=True)
    assert InboxEvent.objects.get().state == State.RECEIVED


def test_a_deleted_draft_is_parked_for_a_person(arrive: Arrive, paid: list[gateway.Object]) -> None:
    event = arrive("invoice.deleted", {"id": "in_gone", "object": "invoice"})
    moment = NOW
    while state_of(event) == State.RECEIVED:
        inbox.handle_waiting(now=moment)
        event.refresh_from_db()
        moment = event.retry_at or moment
    assert "deleted at Stripe" in event.reason


def test_every_event_of_a_month_is_handled(stripe: RunningSandbox, subscribed: Subscribed) -> None:
    subscribed("acme")
    stripe.advance_to(ANCHOR.timestamp() + 60)
    inbox.catch_up(ANCHOR + timedelta(hours=1), reach=timedelta(days=29))
    inbox.handle_waiting(now=ANCHOR + timedelta(hours=1))
    left = InboxEvent.objects.exclude(state__in=[State.DONE, State.IGNORED])
    assert not left.exists(), list(left.values("type", "reason"))


def test_a_timeout_while_fetching_leaves_the_event_for_later(
    arrive: Arrive, customer: gateway.Object, stripe: RunningSandbox
) -> None:
    event = arrive("customer.updated", customer)
    stripe.faults(timeout_next={"count": 1, "seconds": 3})
    with override_settings(STRIPE_TIMEOUT_SECONDS=0.3):
        assert inbox.handle(event.pk, now=NOW) == 0
    assert event.reason == "" or state_of(event) == State.RECEIVED
    assert inbox.handle_waiting(now=NOW + inbox.FIRST_RETRY) == 1


# What staff and the night do


def test_a_parked_event_waits_for_a_person(arrive: Arrive, customer: gateway.Object) -> None:
    event = arrive("customer.updated", customer)
    assert inbox.park(event, reason="Looked at by Sam", now=NOW)
    assert inbox.handle_waiting(now=NOW) == 0
    assert (state_of(event), event.reason) == (State.PARKED, "Looked at by Sam")
    inbox.replay(event)
    assert inbox.handle_waiting(now=NOW) == 1
    assert not inbox.park(event, reason="Too late", now=NOW)
    assert state_of(event) == State.DONE


def test_after_90_days_what_was_handled_is_forgotten_and_what_is_parked_stays(db: None) -> None:
    for number, state in enumerate(State.values):
        for days in (89, 91):
            InboxEvent.objects.create(
                stripe_event_id=f"evt_{number}_{days}",
                type="invoice.paid",
                payload={},
                state=state,
                occurred_at=NOW - timedelta(days=days),
                finished_at=NOW - timedelta(days=days) if state != State.RECEIVED else None,
            )
    assert inbox.forget(NOW) == 2
    assert inbox.forget(NOW) == 0
    left = InboxEvent.objects.filter(stripe_event_id__endswith="_91").values_list("state", flat=True)
    assert set(left) == {State.RECEIVED, State.PARKED}


# Processes that fail


def test_f15_f16_a_connection_cut_or_a_deadlock_in_a_receiver_leaves_nothing_and_is_tried_again(
    arrive: Arrive, customer: gateway.Object, receive: Any, acme: Organization
) -> None:
    ends = iter(
        [
            "SELECT pg_terminate_backend(pg_backend_pid())",
            "DO $$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = 'deadlock_detected'; END $$",
            "SELECT 1",
        ]
    )

    def write_and_fail(subject: gateway.Object, *, now: datetime) -> None:
        Organization.objects.update(name="Half done")
        with connection.cursor() as cursor:
            cursor.execute(next(ends))

    receive(write_and_fail)
    event = arrive("customer.updated", customer)
    for _ in range(2):
        with contextlib.suppress(DatabaseFailure):
            inbox.handle(event.pk, now=NOW)
        connection.close()
        acme.refresh_from_db()
        assert (acme.name, state_of(event)) == ("Acme Robotics", State.RECEIVED)
        InboxEvent.objects.update(retry_at=None)
    assert inbox.handle_waiting(now=NOW) == 1
    acme.refresh_from_db()
    assert (acme.name, state_of(event)) == ("Half done", State.DONE)


def test_f21_an_event_delivered_again_to_another_worker_while_the_first_is_at_it_has_one_effect(
    arrive: Arrive, customer: gateway.Object, receive: Any
) -> None:
    seen = []

    def deliver_again(subject: gateway.Object, *, now: datetime) -> None:
        seen.append(subject["id"])
        other = threading.Thread(target=lambda: (inbox.handle(event.pk, now=NOW), connection.close()))
        other.start()
        other.join(10)

    receive(deliver_again)
    event = arrive("customer.updated", customer)
    inbox.handle(event.pk, now=NOW)
    assert (seen, state_of(event)) == ([customer["id"]], State.DONE)
