"""Seats attached and moved, killed with SIGKILL at each place in turn: Stripe hears of each change once."""

from collections.abc import Iterator

import pytest

from accounts.models import Organization
from billing_portal.billing import gateway, seat_walk
from billing_portal.billing.models import Intent, SeatMove, SeatPlan
from tests.billing import killing, test_seats
from tests.billing.killing import of_write
from tests.billing.test_seats import MARCH, ask, at_stripe
from tests.stripe.conftest import RunningSandbox

priced, plan = test_seats.priced, test_seats.plan


@pytest.fixture
def victim(stripe: RunningSandbox) -> Iterator[killing.Victim]:
    with killing.victim(STRIPE_API_BASE=stripe.url) as running:
        yield running


@pytest.mark.long
def test_f14_seats_killed_while_they_are_attached_are_one_subscription(
    stripe: RunningSandbox, priced: tuple[Organization, str], victim: killing.Victim
) -> None:
    organization, price_id = priced
    gateway.update("prices", price_id, {"metadata": {"for": "seats"}}, "mark")
    writes = [place for each in ("product:allowance", "price:allowance", "seats:") for place in of_write(each)]
    for place in [*writes, "before INSERT billing_seatplan 1", "after INSERT billing_seatplan 1"]:
        victim.kill(place, "attach seats", organization.pk, now=stripe.now())
    plan = seat_walk.attach(organization, stripe_price_id=price_id, quantity=10, now=stripe.now())
    assert SeatPlan.objects.get() == plan
    assert at_stripe(plan) == (10, 0)
    objects = stripe.dump()["objects"]
    assert len(objects["subscription"]) == 2
    assert len([each for each in objects["product"] if each["metadata"].get("allowance")]) == 1
    assert Intent.objects.exclude(state="done").count() == 0


def test_f14_a_change_of_seats_killed_on_its_way_is_made_once_and_both_sides_agree(
    stripe: RunningSandbox, plan: SeatPlan, victim: killing.Victim
) -> None:
    move = ask(plan, 7, stripe.now())
    places = [
        "before billing.seat_walk._claim",
        "after billing.seat_walk._claim",
        *of_write("seat-move:"),
        "before billing.seats.receive",
        "after UPDATE billing_seatplan 1",
        "after billing.seats.receive",
    ]
    for place in places:
        victim.kill(place, "move seats", move.pk, now=stripe.now())
    seat_walk.advance_all(now=stripe.now())
    move.refresh_from_db()
    assert (move.state, move.month) == (SeatMove.State.CONFIRMED, MARCH)
    plan.refresh_from_db()
    assert (plan.seats, plan.units) == at_stripe(plan) == (7, 87)
    told = [each for each in stripe.dump()["events"] if each["type"] == "customer.subscription.updated"]
    assert len(told) == 1
