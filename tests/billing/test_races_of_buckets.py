"""Each verb on buckets that are bought and renewed, and on seats, done by eight connections at once.

See `tests.ledger.racing`; Stripe is not asked.
"""

import tomllib
import uuid
from collections import Counter
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from accounts.models import Organization, User
from billing_portal.billing import (
    bucket_deliveries,
    bucket_renewal_orders,
    bucket_renewals,
    gateway,
    purchases,
    seat_walk,
    seats,
)
from billing_portal.billing.models import BucketOffer, BucketRenewal, Purchase, SeatMonth, SeatMove, SeatPlan
from billing_portal.ledger import buckets
from billing_portal.ledger.models import Bucket
from tests.billing import world
from tests.billing.test_buckets_bought import offer_in_usd
from tests.ledger import racing
from usage.outcomes import rules

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nothing_is_queued")]

NOVEMBER = date(2026, 11, 1)
State = SeatMove.State


@pytest.fixture
def offer(customers: list[Organization]) -> BucketOffer:
    """A bucket of a thousand resolutions, on sale long ago."""
    return offer_in_usd()


def refusals(answers: list[Any]) -> Counter[type]:
    return Counter(type(answer) for answer in answers if isinstance(answer, Exception))


def sorted_reprs(*answers: object) -> list[str]:
    return sorted(map(repr, answers))


# ── Buying and renewing ───────────────────────────────────────────────────────────────────────────────────────────────


@racing.of("bucket_deliveries.deliver")
@racing.FEW_OR_ALL
def test_f30_i13_a_bucket_that_was_paid_is_delivered_once_and_renewed_by_one_order(
    customers: list[Organization], offer: BucketOffer, alice: User, now: datetime
) -> None:
    Purchase.objects.bulk_create(
        Purchase(
            organization=each,
            origin=Purchase.Origin.PERSON,
            kind=Purchase.Kind.BUCKET,
            way=Purchase.Way.CARD,
            offer=offer,
            renews=True,
            currency="USD",
            amount_micros=offer.price_micros,
            state=Purchase.State.PAID,
            asked_by=alice,
            asked_at=now,
        )
        for each in customers
    )

    def act(organization: Organization, _: int) -> Bucket:
        return bucket_deliveries.deliver(Purchase.objects.get(organization=organization), now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        bucket = Bucket.objects.get(organization=organization)
        assert answers == [bucket] * 8
        assert BucketRenewal.objects.get(organization=organization).bucket == bucket

    racing.prove(customers, act, law)


@racing.of("bucket_renewal_orders.accept")
@racing.FEW_OR_ALL
def test_f29_a_renewal_accepted_in_eight_tabs_is_one(
    customers: list[Organization], offer: BucketOffer, alice: User, now: datetime
) -> None:
    bought = open_all(customers, offer, now)

    def act(organization: Organization, _: int) -> BucketRenewal:
        return bucket_renewal_orders.accept(bought[organization.pk], offer, user=alice, now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        assert answers == [BucketRenewal.objects.get(organization=organization)] * 8

    racing.prove(customers, act, law)


@racing.of("bucket_renewals._buy")
@racing.FEW_OR_ALL
def test_f23_f36_a_renewal_is_bought_once(
    customers: list[Organization], offer: BucketOffer, alice: User, now: datetime
) -> None:
    orders = order_all(customers, offer, alice, now)

    def act(organization: Organization, _: int) -> Purchase | None:
        return bucket_renewals._buy(orders[organization.pk], now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        bought = Purchase.objects.get(organization=organization)
        assert sorted_reprs(*answers) == sorted_reprs(bought, *[None] * 7)

    racing.prove(customers, act, law)


@racing.of("bucket_renewal_orders.end", "bucket_renewals._buy")
@racing.FEW_OR_ALL
def test_i13_nothing_is_bought_by_a_renewal_that_was_ended(
    customers: list[Organization], offer: BucketOffer, alice: User, now: datetime
) -> None:
    """The sweep buys while two switch it off, and five look on: who ends it sees what is under way, and gives it up."""
    orders = order_all(customers, offer, alice, now)

    def act(organization: Organization, number: int) -> Purchase | None:
        if number == 0:
            return bucket_renewals._buy(orders[organization.pk], now=now)
        if number > 2:
            return purchases.open_purchase(organization, Purchase.Origin.RENEWAL)
        return bucket_renewals.switch_off(orders[organization.pk].bucket, user=alice, now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        assert not refusals(answers)
        assert BucketRenewal.objects.get(organization=organization).ended_at == now
        assert not Purchase.objects.filter(organization=organization, is_given_up=False).exists()

    racing.prove(customers, act, law, last=lambda number: number == 0)


def open_all(organizations: list[Organization], offer: BucketOffer, now: datetime) -> dict[int, Bucket]:
    """Open a bucket that is over in a day for each."""
    terms = buckets.Terms(("resolution",), offer.size, offer.price_micros, now, now + timedelta(days=1))
    with transaction.atomic():
        return {each.pk: buckets.add(each.pk, terms, reference="paid", now=now) for each in organizations}


def order_all(
    organizations: list[Organization], offer: BucketOffer, user: User, now: datetime
) -> dict[int, BucketRenewal]:
    """Have each renew its bucket, as it was told."""
    bought = open_all(organizations, offer, now)
    with transaction.atomic():
        orders = {
            each.pk: bucket_renewal_orders.accept(bought[each.pk], offer, user=user, now=now) for each in organizations
        }
    BucketRenewal.objects.update(told_at=now)
    return orders


# ── Seats ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def plans(customers: list[Organization], now: datetime) -> dict[int, SeatPlan]:
    """Ten seats at 29 dollars each, of which Stripe knows nothing."""
    world.load_prices()
    rules.load(tomllib.loads(Path("usage/price_books/outcomes.toml").read_text()), now=now)
    made = SeatPlan.objects.bulk_create(
        SeatPlan(
            organization=each,
            stripe_price_id="price_seat",
            stripe_subscription_id=f"sub_seats_{each.pk}",
            stripe_seats_item_id="si_seats",
            stripe_units_item_id="si_units",
            seat_micros=29_000_000,
            currency="USD",
            base_seats=10,
            seats=10,
            units=0,
            unit_micros=990_000,
            attached_at=now - timedelta(days=60),
        )
        for each in customers
    )
    return {plan.organization_id: plan for plan in made}


@racing.of("seats.ask")
@racing.FEW_OR_ALL
def test_f29_of_two_changes_of_seats_one_is_asked_for_however_often_they_are_sent(
    plans: dict[int, SeatPlan], customers: list[Organization], alice: User, now: datetime
) -> None:
    """Two people, each sends a form four times."""
    keys = {each.pk: (uuid.uuid4(), uuid.uuid4()) for each in customers}

    def act(organization: Organization, number: int) -> SeatMove:
        key = keys[organization.pk][number % 2]
        return seats.ask(plans[organization.pk], seats=5 + number % 2, public_id=key, by=alice, now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        assert answers.count(SeatMove.objects.get(organization=organization)) == 4
        assert refusals(answers) == {seats.MoveOpen: 4}

    racing.prove(customers, act, law)


@racing.of("seats.cancel", "seat_walk._claim")
@racing.FEW_OR_ALL
def test_f14_a_change_of_seats_is_sent_or_canceled_and_never_both(
    plans: dict[int, SeatPlan], customers: list[Organization], alice: User, now: datetime
) -> None:
    moves = ask_all(plans, alice, State.ASKED, now)

    def act(organization: Organization, number: int) -> object:
        move = moves[organization.pk]
        return seats.cancel(move, now=now).state if number % 2 else seat_walk._claim(move)

    def law(organization: Organization, answers: list[Any]) -> None:
        if SeatMove.objects.get(organization=organization).state == State.CANCELED:
            assert answers == [False, State.CANCELED] * 4
        else:
            assert answers[::2] == [True] * 4
            assert refusals(answers) == {seats.TooLate: 4}

    racing.prove(customers, act, law, last=lambda number: number % 2 == 1)


@racing.of("seats.receive", "seat_walk._refuse")
@racing.FEW_OR_ALL
def test_i17_a_change_of_seats_ends_once(
    plans: dict[int, SeatPlan],
    customers: list[Organization],
    alice: User,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stripe's events say that it is there; the walk, late, that Stripe refused it."""
    moves = ask_all(plans, alice, State.SENDING, now)
    ended: dict[int, list[str]] = {each.pk: [] for each in customers}
    end = seats.end

    def end_and_tell(move: SeatMove, state: SeatMove.State, **options: Any) -> None:
        end(move, state, **options)
        ended[move.organization_id].append(state)

    monkeypatch.setattr(seats, "end", end_and_tell)
    refused = gateway.Refused("No such item")

    def act(organization: Organization, number: int) -> None:
        if number % 2:
            seats.receive(as_stripe_has_it(plans[organization.pk], moves[organization.pk]), now=now)
        else:
            seat_walk._refuse(moves[organization.pk], refused, now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        assert answers == [None] * 8
        assert ended[organization.pk] == [SeatMove.objects.get(organization=organization).state]

    racing.prove(customers, act, law)


@racing.of("seats.begin_month")
@racing.FEW_OR_ALL
def test_f23_f50_a_months_outcomes_are_put_into_the_books_once(
    plans: dict[int, SeatPlan], customers: list[Organization], alice: User, now: datetime
) -> None:
    moves = ask_all(plans, alice, State.SENDING, now)

    def act(organization: Organization, _: int) -> SeatMonth:
        plan = SeatPlan.objects.select_related("organization").get(organization=organization)
        return seats.begin_month(plan, as_stripe_has_it(plan, moves[organization.pk]), NOVEMBER, now=now)

    def law(organization: Organization, answers: list[Any]) -> None:
        begun = SeatMonth.objects.get(organization=organization)
        assert answers == [begun] * 8
        assert Bucket.objects.get(organization=organization) == begun.bucket
        assert (begun.seats, begun.units) == (7, 87)

    racing.prove(customers, act, law)


def ask_all(plans: dict[int, SeatPlan], user: User, state: SeatMove.State, now: datetime) -> dict[int, SeatMove]:
    """Have each keep seven of its seats."""
    with transaction.atomic():
        moves = {pk: seats.ask(plan, seats=7, public_id=uuid.uuid4(), by=user, now=now) for pk, plan in plans.items()}
    SeatMove.objects.update(state=state)
    return moves


def as_stripe_has_it(plan: SeatPlan, move: SeatMove) -> dict[str, Any]:
    items = [
        {"id": plan.stripe_seats_item_id, "quantity": move.seats},
        {"id": plan.stripe_units_item_id, "quantity": move.units, "price": {"unit_amount_decimal": "99"}},
    ]
    return {"id": plan.stripe_subscription_id, "items": {"data": items}}
