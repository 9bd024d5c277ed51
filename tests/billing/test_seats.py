"""Spend moved from seats to outcomes and back: both sides or neither, whatever Stripe does with the answer."""

import tomllib
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts import people
from accounts.models import Organization
from billing_portal.billing import customers, gateway, invoice_lines, invoices, reconciliation, seat_walk, seats
from billing_portal.billing.models import Intent, SeatMonth, SeatMove, SeatPlan
from billing_portal.ledger.models import Bucket
from billing_portal.support import actions, kinds
from tests.billing.world import Buyer, load_prices
from tests.stripe.conftest import RunningSandbox
from usage.outcomes import rules

MARCH, APRIL = date(2027, 3, 1), date(2027, 4, 1)
MARCH_BEGINS = datetime(2027, 3, 1, 0, 5, tzinfo=UTC)
AFTER_THE_ANCHOR = datetime(2027, 3, 1, 14, tzinfo=UTC)
State = SeatMove.State


@settings(max_examples=50)
@given(st.integers(0, 500), st.integers(1, 10**9), st.integers(1, 10**8))
def test_an_allowance_costs_no_more_than_the_seats_and_leaves_less_than_one(
    moved: int, seat_micros: int, unit_micros: int
) -> None:
    units = seats.allowance(moved, seat_micros, unit_micros)
    assert 0 <= moved * seat_micros - units * unit_micros < unit_micros


@pytest.fixture
def priced(stripe: RunningSandbox, buyer: Callable[..., Buyer]) -> tuple[Organization, str]:
    """A customer who pays by card on 10 February 2027, and Stripe's price of a seat at 29 dollars."""
    load_prices()
    rules.load(tomllib.loads(Path("usage/price_books/outcomes.toml").read_text()), now=stripe.now())
    organization = buyer("acme").organization
    customers.subscribe(organization, now=stripe.now())
    product = gateway.create("products", {"name": "Seat"}, "seat")
    terms = {"currency": "usd", "unit_amount": 2900, "recurring": {"interval": "month"}}
    price = gateway.create("prices", {"product": product["id"], **terms}, "seat-price")
    return organization, str(price["id"])


@pytest.fixture
def plan(stripe: RunningSandbox, priced: tuple[Organization, str]) -> SeatPlan:
    """Ten seats, attached."""
    organization, price_id = priced
    return seat_walk.attach(organization, stripe_price_id=price_id, quantity=10, now=stripe.now())


def ask(plan: SeatPlan, keep: int, now: datetime, **options: Any) -> SeatMove:
    by = plan.organization.users.get()
    return seats.ask(plan, seats=keep, by=by, now=now, **{"public_id": uuid.uuid4(), **options})


def at_stripe(plan: SeatPlan) -> tuple[int, int]:
    return seats.quantities(plan, gateway.retrieve("subscriptions", plan.stripe_subscription_id))[:2]


def begin(stripe: RunningSandbox, instant: datetime) -> None:
    stripe.advance_to(instant.timestamp())
    seat_walk.advance_all(now=stripe.now())


def receive_invoices(plan: SeatPlan, now: datetime) -> list[Any]:
    """Take over what Stripe has drafted of the seats' subscription, as its webhooks do; return ours."""
    found = gateway.list_all("invoices", {"subscription": plan.stripe_subscription_id})
    received = []
    for data in found:
        invoice = invoices.receive(data, now=now)
        seats.receive_invoice(invoice, data)
        invoice_lines.store(invoice)
        received.append(invoice)
    return received


@pytest.mark.long
def test_attaching_twice_makes_one_subscription_and_bills_nothing_yet(plan: SeatPlan, stripe: RunningSandbox) -> None:
    again = seat_walk.attach(plan.organization, stripe_price_id=plan.stripe_price_id, quantity=10, now=stripe.now())
    assert again == plan
    assert (plan.seats, plan.units, plan.seat_micros, plan.unit_micros) == (10, 0, 29_000_000, 990_000)
    made = list(
        gateway.list_all(
            "subscriptions", {"customer": customers.ensure(plan.organization, now=stripe.now()).stripe_customer_id}
        )
    )
    assert len(made) == 2


def test_both_sides_to_the_cent_before_anything_happens(plan: SeatPlan, stripe: RunningSandbox) -> None:
    sides = seats.preview(plan, seats=7, now=stripe.now())
    assert (sides.before.total_micros, sides.after.seats_micros) == (290_000_000, 203_000_000)
    # 87 dollars buy 87 outcomes at 0.99; the last 87 cents buy none, and are not billed.
    assert (sides.after.units, sides.after.units_micros) == (87, 86_130_000)
    assert (sides.change_micros, sides.month) == (-870_000, MARCH)
    assert at_stripe(plan) == (10, 0)
    for wrong in (-1, 10, 11):
        with pytest.raises(seats.SeatsRefused):
            seats.preview(plan, seats=wrong, now=stripe.now())


def test_spend_is_moved_from_the_next_month_on_and_billed_as_previewed(plan: SeatPlan, stripe: RunningSandbox) -> None:
    move = seat_walk.advance(ask(plan, 7, stripe.now()), now=stripe.now())
    assert (move.state, move.month, at_stripe(plan)) == (State.CONFIRMED, MARCH, (7, 87))
    assert not Bucket.objects.exists(), "nothing is there before the month begins"
    begin(stripe, MARCH_BEGINS)
    bucket = Bucket.objects.get()
    assert (bucket.size, bucket.price_micros) == (87, 86_130_000)
    assert (bucket.starts_at, bucket.expires_at) == (
        datetime(2027, 3, 1, tzinfo=UTC),
        datetime(2027, 4, 1, tzinfo=UTC),
    )
    assert "qualification" not in bucket.outcomes
    begin(stripe, AFTER_THE_ANCHOR)
    assert SeatMonth.objects.count() == 1
    (invoice,) = [each for each in receive_invoices(plan, stripe.now()) if each.total_minor]
    assert (invoice.month, invoice.subtotal_minor) == (None, 20_300 + 8_613)
    assert reconciliation.reconcile_invoice(invoice, deep=False).agrees


def test_moving_back_gives_the_seats_again_from_the_month_after(plan: SeatPlan, stripe: RunningSandbox) -> None:
    seat_walk.advance(ask(plan, 7, stripe.now()), now=stripe.now())
    begin(stripe, AFTER_THE_ANCHOR)
    plan.refresh_from_db()
    back = seat_walk.advance(ask(plan, 10, stripe.now()), now=stripe.now())
    assert (back.state, back.month, at_stripe(plan)) == (State.CONFIRMED, APRIL, (10, 0))
    assert Bucket.objects.get().remaining_units == 87, "the month that is billed keeps its outcomes"
    begin(stripe, datetime(2027, 4, 1, 14, tzinfo=UTC))
    assert list(SeatMonth.objects.order_by("month").values_list("seats", "units")) == [(7, 87), (10, 0)]
    assert Bucket.objects.count() == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_f17_a_lost_answer_is_repaired_with_the_same_key(plan: SeatPlan, stripe: RunningSandbox, when: str) -> None:
    move = ask(plan, 7, stripe.now())
    path = f"/v1/subscriptions/{plan.stripe_subscription_id}"
    stripe.faults(timeout_next={"count": 1, "seconds": 5, "when": when, "method": "POST", "path": path})
    move = seat_walk.advance(move, now=stripe.now())
    assert (move.state, "same key" in move.reason) == (State.SENDING, True)
    with pytest.raises(seats.TooLate):
        seats.cancel(move, now=stripe.now())
    key = Intent.objects.get(reference=f"seat-move:{move.public_id}").idempotency_key
    assert seat_walk.advance_all(now=stripe.now()) == 1
    move.refresh_from_db()
    assert (move.state, at_stripe(plan)) == (State.CONFIRMED, (7, 87))
    assert Intent.objects.get(reference=f"seat-move:{move.public_id}").idempotency_key == key


def test_f14_the_webhook_confirms_what_nobody_lived_to_note(
    plan: SeatPlan, stripe: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between Stripe's answer and our note: the webhook, or the sweep, finds the change that was sent."""
    move = ask(plan, 7, stripe.now())
    monkeypatch.setattr(seats, "receive", _die)
    with pytest.raises(KeyboardInterrupt):
        seat_walk.advance(move, now=stripe.now())
    monkeypatch.undo()
    move.refresh_from_db()
    assert (move.state, SeatPlan.objects.get().units) == (State.SENDING, 0)
    subscription = gateway.retrieve("subscriptions", plan.stripe_subscription_id)
    for _ in range(2):
        seats.receive(subscription, now=stripe.now())
    move.refresh_from_db()
    assert (move.state, move.month, SeatPlan.objects.get().units) == (State.CONFIRMED, MARCH, 87)


def _die(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_what_stripe_refuses_changes_neither_side_and_says_why(plan: SeatPlan, stripe: RunningSandbox) -> None:
    move = ask(plan, 7, stripe.now())
    path = f"/v1/subscriptions/{plan.stripe_subscription_id}"
    stripe.faults(fail_next={"count": 1, "status": 400, "method": "POST", "path": path})
    move = seat_walk.advance(move, now=stripe.now())
    assert (move.state, at_stripe(plan)) == (State.REFUSED, (10, 0))
    assert move.reason.startswith("Stripe refused")
    assert seat_walk.advance(ask(plan, 7, stripe.now()), now=stripe.now()).state == State.CONFIRMED


def test_nothing_is_sent_between_the_months_start_and_stripes(plan: SeatPlan, stripe: RunningSandbox) -> None:
    """What Stripe has when the month begins is what it bills at noon: so both are the same number."""
    stripe.advance_to(MARCH_BEGINS.timestamp())
    move = seat_walk.advance(ask(plan, 7, stripe.now()), now=stripe.now())
    assert (move.state, at_stripe(plan)) == (State.ASKED, (10, 0))
    begin(stripe, AFTER_THE_ANCHOR)
    move.refresh_from_db()
    assert (move.state, move.month) == (State.CONFIRMED, APRIL)
    assert SeatMonth.objects.get(month=MARCH).units == 0


def test_f27_one_form_is_one_move_and_one_is_open_at_a_time(plan: SeatPlan, stripe: RunningSandbox) -> None:
    key = uuid.uuid4()
    move = ask(plan, 7, stripe.now(), public_id=key)
    assert ask(plan, 7, stripe.now(), public_id=key) == move
    with pytest.raises(seats.FormReused):
        ask(plan, 6, stripe.now(), public_id=key)
    with pytest.raises(seats.MoveOpen):
        ask(plan, 6, stripe.now())
    assert seats.cancel(move, now=stripe.now()).state == State.CANCELED
    assert seat_walk.advance(move, now=stripe.now()).state == State.CANCELED
    assert at_stripe(plan) == (10, 0)


def test_staff_attach_seats_and_above_the_limit_a_second_one_approves(
    priced: tuple[Organization, str], stripe: RunningSandbox
) -> None:
    organization, price_id = priced
    sam, tess = (people.admit(email=f"{name}@desk.example", password="x", is_staff=True) for name in ("sam", "tess"))
    kind, params = kinds.named("attach_seats"), {"price": price_id, "quantity": 10}
    sides = actions.preview(kind=kind, organization=organization, params=params, by=sam, now=stripe.now())
    assert (sides.amount_micros, sides.needs_approval) == (290_000_000, True)
    asked = actions.ask(
        kind=kind,
        organization=organization,
        params=params,
        reason="As signed",
        public_id=uuid.uuid4(),
        by=sam,
        now=stripe.now(),
    )
    assert not SeatPlan.objects.exists()
    for _ in range(2):
        actions.approve(asked.public_id, by=tess, now=stripe.now())
    assert SeatPlan.objects.get().seats == 10
    with pytest.raises(kinds.Refused, match="has seats already"):
        actions.preview(kind=kind, organization=organization, params=params, by=sam, now=stripe.now())


@pytest.mark.long
def test_a_price_that_is_no_seats_is_refused(plan: SeatPlan, stripe: RunningSandbox) -> None:
    product = gateway.create("products", {"name": "Desk"}, "desk")
    yearly = {"product": product["id"], "currency": "usd", "unit_amount": 1, "recurring": {"interval": "year"}}
    euros = {**yearly, "currency": "eur", "recurring": {"interval": "month"}}
    for terms, reason in ((yearly, "must be monthly"), (euros, "it is EUR")):
        price = gateway.create("prices", terms, f"desk-{terms['currency']}")
        with pytest.raises(seat_walk.PriceUnfit, match=reason):
            seat_walk.price_of(price["id"], "USD")
    with pytest.raises(seat_walk.PriceUnfit, match="has no price"):
        seat_walk.price_of("price_nowhere", "USD")


# ── What staff sell ───────────────────────────────────────────────────────────────────────────────────────────────────


def sell(plan: SeatPlan, base_seats: int, now: datetime, **options: Any) -> SeatMove:
    by = plan.organization.users.get()
    return seats.sell(plan, base_seats=base_seats, by=by, now=now, **{"public_id": uuid.uuid4(), **options})


def billed(plan: SeatPlan) -> int:
    """Return what all invoices of the seats' subscription come to, in cents."""
    return sum(each["total"] for each in gateway.list_all("invoices", {"subscription": plan.stripe_subscription_id}))


def test_selling_more_seats_leaves_what_was_moved_to_outcomes(plan: SeatPlan, stripe: RunningSandbox) -> None:
    seat_walk.advance(ask(plan, 7, stripe.now()), now=stripe.now())
    plan.refresh_from_db()
    sides = seats.preview_sold(plan, base_seats=12, now=stripe.now())
    assert ((sides.before.seats, sides.before.units), (sides.after.seats, sides.after.units)) == ((7, 87), (9, 87))
    assert sides.change_micros == 2 * 29_000_000
    for wrong in (10, 2):  # as many as are sold, fewer than are moved
        with pytest.raises(seats.SeatsRefused):
            seats.preview_sold(plan, base_seats=wrong, now=stripe.now())
    key = uuid.uuid4()
    move = sell(plan, 12, stripe.now(), public_id=key)
    assert sell(plan, 12, stripe.now(), public_id=key) == move
    with pytest.raises(seats.FormReused):
        sell(plan, 13, stripe.now(), public_id=key)
    with pytest.raises(seats.TooLate):  # it is agreed, and not the customer's to cancel
        seats.cancel(move, now=stripe.now())
    assert SeatPlan.objects.get().base_seats == 10, "nothing counts before Stripe has confirmed it"
    assert seat_walk.advance(move, now=stripe.now()).state == State.CONFIRMED
    assert (SeatPlan.objects.get().base_seats, at_stripe(plan)) == (12, (9, 87))


@pytest.mark.parametrize("when", ["before", "after"])
def test_f14_f17_detaching_with_a_lost_answer_ends_both_sides_once_and_bills_no_more(
    plan: SeatPlan, stripe: RunningSandbox, when: str
) -> None:
    seat_walk.advance(ask(plan, 7, stripe.now()), now=stripe.now())
    begin(stripe, AFTER_THE_ANCHOR)
    plan.refresh_from_db()
    path = f"/v1/subscriptions/{plan.stripe_subscription_id}"
    stripe.faults(timeout_next={"count": 1, "seconds": 5, "when": when, "method": "POST", "path": path})
    move = seat_walk.advance(sell(plan, 0, stripe.now()), now=stripe.now())
    assert (move.state, SeatPlan.objects.get().detached_at) == (State.SENDING, None)
    assert seat_walk.advance_all(now=stripe.now()) == 1
    move.refresh_from_db()
    plan.refresh_from_db()
    assert (move.state, move.month, plan.base_seats, at_stripe(plan)) == (State.CONFIRMED, APRIL, 0, (0, 0))
    assert Bucket.objects.get().remaining_units == 87, "what is paid stays until the month ends"
    before = billed(plan)
    begin(stripe, datetime(2027, 4, 1, 14, tzinfo=UTC))
    assert gateway.retrieve("subscriptions", plan.stripe_subscription_id)["status"] == "canceled"
    assert billed(plan) == before > 0
    assert not SeatMonth.objects.filter(month=APRIL).exists()


def test_staff_detach_seats_after_a_preview_and_attach_others_later(plan: SeatPlan, stripe: RunningSandbox) -> None:
    sam, tess = (people.admit(email=f"{name}@desk.example", password="x", is_staff=True) for name in ("sam", "tess"))
    kind, organization = kinds.named("detach_seats"), plan.organization
    asked = {"kind": kind, "organization": organization, "params": {}, "by": sam, "now": stripe.now()}
    sides = actions.preview(**asked)
    assert (sides.amount_micros, sides.needs_approval) == (290_000_000, True)
    waiting = actions.ask(**asked, reason="As agreed", public_id=uuid.uuid4())
    for _ in range(2):
        actions.approve(waiting.public_id, by=tess, now=stripe.now())
    assert SeatPlan.objects.get().detached_at is not None
    with pytest.raises(kinds.Refused, match="detached already"):
        actions.preview(**asked)
    before = plan.stripe_subscription_id
    for _ in range(2):
        again = seat_walk.attach(organization, stripe_price_id=plan.stripe_price_id, quantity=3, now=stripe.now())
    assert (again.pk, again.base_seats, again.detached_at) == (plan.pk, 3, None)
    assert again.stripe_subscription_id != before
