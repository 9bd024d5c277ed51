"""Items of subscriptions: every meter's, also where the subscription is older than the meter."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from accounts.models import Organization
from billing_portal.billing import customers, cycles, gateway, meter_sums, metering, meters, subscription_items
from billing_portal.billing.models import Customer, Meter, Report, SubscriptionItem
from billing_portal.ledger import accounts
from tests.billing.world import ANCHOR, MIDMONTH, MONTH, settled
from tests.stripe.conftest import RunningSandbox
from usage.models import Billable, Component

MakeOrganization = Callable[..., Organization]
LATER = MIDMONTH + timedelta(days=2, seconds=30)


@pytest.fixture
def older(stripe: RunningSandbox, make_organization: MakeOrganization) -> Callable[[str], Customer]:
    """Return a maker of customers whose subscription was made when there were meters of calls alone."""

    def make(reference: str) -> Customer:
        organization = make_organization(reference)
        accounts.open(organization=organization, now=MIDMONTH)
        customer = customers.ensure(organization, now=MIDMONTH)
        of_calls = [price for price in meters.ensure("USD", now=MIDMONTH) if price.meter.component in Component.values]
        params = customers._subscription_params(organization, customer, of_calls, MIDMONTH)
        customer.stripe_subscription_id = gateway.create("subscriptions", params, f"older-{reference}")["id"]
        customer.subscribed_at = MIDMONTH
        customer.save()
        return customer

    return make


def at_stripe(customer: Customer) -> int:
    items = gateway.list_all("subscription_items", {"subscription": customer.stripe_subscription_id})
    return len({item["price"]["id"] for item in items})


def test_i04_a_meter_that_came_later_has_its_item_before_its_first_report(
    stripe: RunningSandbox, older: Callable[[str], Customer]
) -> None:
    acme = older("acme")
    stripe.advance_to(LATER.timestamp())
    settled(acme.organization, {"resolution": 990_000, "llm": 700})
    metering.write_reports(acme.organization_id, now=LATER)
    # The item is younger than the last whole minute, so the report waits for the next one.
    assert metering.send_reports(now=LATER) == 1
    later = LATER + timedelta(minutes=2)
    stripe.advance_to(later.timestamp())
    assert metering.send_reports(now=later) == 1
    report = Report.objects.get(component="resolution")
    item = SubscriptionItem.objects.get(component="resolution")
    assert report.minute_at is not None
    assert item.added_at >= LATER
    assert report.minute_at >= item.added_at
    starts_at, _ = cycles.bounds(MONTH)
    meter = Meter.objects.get(component="resolution")
    assert meter_sums.counted(meter, acme, starts_at, ANCHOR) == 990_000
    stripe.advance_to((ANCHOR + timedelta(minutes=10)).timestamp())
    (invoice,) = gateway.list_all("invoices", {"customer": acme.stripe_customer_id})
    billed = {line["amount"] for line in gateway.list_invoice_lines(invoice["id"])}
    assert 99 in billed


def test_the_sweep_puts_new_meters_on_every_subscription_once(
    stripe: RunningSandbox, older: Callable[[str], Customer], make_organization: MakeOrganization
) -> None:
    acme, other = older("acme"), older("other")
    new = customers.subscribe(make_organization("new"), now=MIDMONTH)
    assert subscription_items.complete_all(now=LATER) == 2 * (len(Billable) - len(Component))
    assert {at_stripe(each) for each in (acme, other, new)} == {len(Billable)}
    assert subscription_items.complete_all(now=LATER) == 0
    assert SubscriptionItem.objects.count() == 3 * len(Billable)
    assert {each.added_at.replace(second=0) for each in SubscriptionItem.objects.all()} == {
        datetime(2027, 2, 10, 9, 30, tzinfo=UTC)
    }


def test_f17_a_lost_answer_adds_no_second_item(stripe: RunningSandbox, older: Callable[[str], Customer]) -> None:
    acme = older("acme")
    stripe.faults(timeout_next={"count": 1, "when": "after", "seconds": 4, "path": "subscription_items"})
    with pytest.raises(gateway.Unavailable):
        subscription_items.complete(acme, now=LATER)
    subscription_items.complete(acme, now=LATER + timedelta(minutes=5))
    items = list(gateway.list_all("subscription_items", {"subscription": acme.stripe_subscription_id}))
    assert len(items) == at_stripe(acme) == SubscriptionItem.objects.count() == len(Billable)


def test_f24_a_subscription_that_is_gone_keeps_no_other_from_its_items(older: Callable[[str], Customer]) -> None:
    gone, acme = older("gone"), older("acme")
    Customer.objects.filter(pk=gone.pk).update(stripe_subscription_id="sub_gone")
    settled(gone.organization, {"resolution": 1})
    metering.write_reports(gone.organization_id, now=LATER)
    assert subscription_items.complete_all(now=LATER) == len(Billable) - len(Component)
    assert at_stripe(acme) == len(Billable)
    assert metering.send_reports(now=LATER) == 0
    assert Report.objects.get().attempts == 0
