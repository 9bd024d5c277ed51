"""Customers and subscriptions: one each, however often and however many at once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from accounts.models import Organization, User
from billing_portal.billing import cards, customers, gateway, inbox, meters
from billing_portal.billing.models import Customer, InboxEvent, MeterPrice, PaymentMethod
from billing_portal.ledger import accounts, credits
from billing_portal.ledger.models import Grant
from tests.billing.world import MIDMONTH
from tests.stripe.conftest import RunningSandbox


def test_a_customer_carries_who_it_is(stripe: RunningSandbox, acme: Organization) -> None:
    customer = customers.ensure(acme, now=MIDMONTH)
    theirs = gateway.retrieve("customers", customer.stripe_customer_id)
    assert theirs["name"] == "Acme Robotics"
    assert theirs["email"] == "alice@acme.example"
    assert theirs["metadata"] == {"organization": str(acme.public_id), "reference": "acme"}


def test_bills_go_to_the_billing_address_if_there_is_one(stripe: RunningSandbox, acme: Organization) -> None:
    acme.billing_email = "bills@acme.example"
    customer = customers.ensure(acme, now=MIDMONTH)
    assert gateway.retrieve("customers", customer.stripe_customer_id)["email"] == "bills@acme.example"


def test_ten_at_once_make_one_customer(stripe: RunningSandbox, acme: Organization) -> None:
    def race(_: int) -> str:
        try:
            return customers.ensure(acme, now=MIDMONTH).stripe_customer_id
        finally:
            connection.close()

    with ThreadPoolExecutor(5) as pool:
        made = set(pool.map(race, range(10)))
    assert [customer["id"] for customer in gateway.list_all("customers")] == [*made]


def test_a_lost_answer_makes_no_second_customer_even_after_a_change_of_name(
    stripe: RunningSandbox, acme: Organization
) -> None:
    stripe.faults(timeout_next={"count": 1, "when": "after", "seconds": 5, "method": "POST"})
    with pytest.raises(gateway.Unavailable):
        customers.ensure(acme, now=MIDMONTH)
    acme.name = "Acme Two"
    for moment in (MIDMONTH, MIDMONTH + timedelta(days=2)):
        Customer.objects.all().delete()
        customers.ensure(acme, now=moment)
        assert len(list(gateway.list_all("customers"))) == 1


def test_a_lost_customer_is_looked_up_after_a_day(stripe: RunningSandbox, acme: Organization) -> None:
    stripe.faults(timeout_next={"count": 1, "when": "after", "seconds": 5, "method": "POST"})
    with pytest.raises(gateway.Unavailable):
        customers.ensure(acme, now=MIDMONTH)
    found = customers.ensure(acme, now=MIDMONTH + timedelta(days=2))
    assert [customer["id"] for customer in gateway.list_all("customers")] == [found.stripe_customer_id]


def test_a_subscription_has_an_item_for_every_meter_and_is_anchored_after_the_month(
    stripe: RunningSandbox, acme: Organization
) -> None:
    customer = customers.subscribe(acme, now=MIDMONTH)
    theirs = gateway.retrieve("subscriptions", customer.stripe_subscription_id)
    prices = {item["price"]["id"] for item in theirs["items"]["data"]}
    assert prices == set(MeterPrice.objects.filter(currency="USD").values_list("stripe_price_id", flat=True))
    assert prices
    anchor = datetime(2027, 3, 1, 12, tzinfo=UTC)
    assert theirs["billing_cycle_anchor"] == anchor.timestamp()
    assert {item["current_period_end"] for item in theirs["items"]["data"]} == {anchor.timestamp()}
    assert (theirs["status"], theirs["collection_method"]) == ("active", "charge_automatically")
    assert customer.subscribed_at == MIDMONTH


def test_subscribing_again_changes_nothing(stripe: RunningSandbox, acme: Organization) -> None:
    first, second = (customers.subscribe(acme, now=MIDMONTH + timedelta(days=days)) for days in (0, 30))
    assert first == second
    assert len(list(gateway.list_all("subscriptions"))) == 1


def test_a_lost_subscription_is_found_again_in_a_later_month(stripe: RunningSandbox, acme: Organization) -> None:
    meters.ensure("USD", now=MIDMONTH)
    customers.ensure(acme, now=MIDMONTH)
    stripe.faults(timeout_next={"count": 1, "when": "after", "seconds": 5, "method": "POST"})
    with pytest.raises(gateway.Unavailable):
        customers.subscribe(acme, now=MIDMONTH)
    found = customers.subscribe(acme, now=MIDMONTH + timedelta(days=40))
    assert [each["id"] for each in gateway.list_all("subscriptions")] == [found.stripe_subscription_id]


@pytest.mark.parametrize(
    ("now", "anchor"),
    [
        (datetime(2027, 2, 1, 11, 59, 59, tzinfo=UTC), datetime(2027, 2, 1, 12, tzinfo=UTC)),
        (datetime(2027, 2, 1, 12, tzinfo=UTC), datetime(2027, 3, 1, 12, tzinfo=UTC)),
        (datetime(2027, 12, 31, 23, tzinfo=UTC), datetime(2028, 1, 1, 12, tzinfo=UTC)),
    ],
)
def test_the_anchor_lies_strictly_ahead(acme: Organization, now: datetime, anchor: datetime) -> None:
    customer = Customer(stripe_customer_id="cus_1")
    assert customers._subscription_params(acme, customer, [], now)["billing_cycle_anchor"] == anchor.timestamp()


def test_stripes_own_portal_is_one_address_away(stripe: RunningSandbox, acme: Organization) -> None:
    customers.ensure(acme, now=MIDMONTH)
    assert customers.billing_portal_session_url(acme, "http://127.0.0.1/back").startswith("http")


def test_f40_a_customer_deleted_at_stripe_leaves_our_books_whole(
    stripe: RunningSandbox, acme: Organization, alice: User
) -> None:
    customer = customers.ensure(acme, now=MIDMONTH)
    accounts.open(organization=acme, now=MIDMONTH)
    credits.grant(organization=acme, kind=Grant.Kind.WELCOME, micros=10, reference="welcome", now=MIDMONTH)
    PaymentMethod.objects.create(
        organization=acme, stripe_payment_method_id="pm_1", kind="card", is_default=True, created_at=MIDMONTH
    )
    stripe.client.v1.customers.delete(customer.stripe_customer_id)
    inbox.catch_up(MIDMONTH + timedelta(hours=1))
    inbox.handle_waiting(now=MIDMONTH + timedelta(hours=1))
    assert not InboxEvent.objects.exclude(reason="").exists()
    customer.refresh_from_db()
    assert customer.deleted_at == MIDMONTH + timedelta(hours=1)
    assert not cards.has_usable_card(acme)
    assert Grant.objects.get().remaining_micros == 10
    with pytest.raises(customers.CustomerDeleted):
        customers.ensure(acme, now=MIDMONTH)
