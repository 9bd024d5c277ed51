"""The items of a subscription: one for every meter, also for meters that came after the subscription.

Stripe bills no usage from before an item was added. So no report of a component is sent before its item is known here,
and each is stamped after it; the sweep adds a new meter's items everywhere, ahead of its first report.
"""

from datetime import UTC, datetime
from functools import partial

import structlog
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from billing_portal.billing import gateway, intents, meters
from billing_portal.billing.models import Customer, MeterPrice, SubscriptionItem
from usage.models import Billable

log = structlog.get_logger(__name__)


def ensure(customer: Customer, component: str, *, now: datetime) -> SubscriptionItem:
    """Return the item through which Stripe bills a component, put on the subscription if it is not there.

    The customer has a subscription. Raises what the gateway and intents.perform raise.
    """
    of_customer = SubscriptionItem.objects.filter(organization_id=customer.organization_id)
    if not of_customer.filter(component=component).exists():
        complete(customer, now=now)
    return of_customer.get(component=component)


def complete(customer: Customer, *, now: datetime) -> int:
    """Know every item that the subscription has, and add those it lacks; return how many were added.

    Doing it again, or twice at once, adds nothing twice. Raises what the gateway and intents.perform raise.
    """
    prices = meters.ensure(customer.organization.currency, now=now)
    missing = _unknown(customer, prices)
    _take_over(customer, missing)
    missing = _unknown(customer, missing)
    for price in missing:
        _add(customer, price, now=now)
    if missing:
        _take_over(customer, missing)
        log.info("items added", organization_id=customer.organization_id, items=len(missing))
    return len(missing)


def complete_all(*, now: datetime, limit: int = 500) -> int:
    """Complete the subscriptions that lack an item here; return how many items were added at Stripe.

    One that fails is logged and keeps no other from going on (F24).
    """
    return sum(_complete_safely(customer, now=now) for customer in _incomplete()[:limit])


def _incomplete() -> QuerySet[Customer]:
    items = SubscriptionItem.objects.filter(organization_id=OuterRef("organization_id")).order_by()
    counted = items.values("organization_id").annotate(items=Count("pk")).values("items")
    subscribed = Customer.objects.filter(deleted_at=None).exclude(
        Q(stripe_subscription_id=None) | Q(subscribed_at=None)
    )
    lacking = subscribed.annotate(items=Coalesce(Subquery(counted), 0)).filter(items__lt=len(Billable))
    return lacking.select_related("organization").order_by("id")


def _complete_safely(customer: Customer, *, now: datetime) -> int:
    try:
        return complete(customer, now=now)
    except Exception:
        log.exception("items cannot be added", organization_id=customer.organization_id)
        return 0


def _unknown(customer: Customer, prices: list[MeterPrice]) -> list[MeterPrice]:
    known = SubscriptionItem.objects.filter(organization_id=customer.organization_id)
    components = set(known.values_list("component", flat=True))
    return [price for price in prices if price.meter.component not in components]


def _take_over(customer: Customer, prices: list[MeterPrice]) -> None:
    """Keep those items of these prices that Stripe has."""
    if not prices:
        return
    components = {price.stripe_price_id: price.meter.component for price in prices}
    SubscriptionItem.objects.bulk_create(
        (
            SubscriptionItem(
                organization_id=customer.organization_id,
                component=components[item["price"]["id"]],
                stripe_subscription_item_id=item["id"],
                added_at=datetime.fromtimestamp(item["created"], UTC),
            )
            for item in _at_stripe(customer)
            if item["price"]["id"] in components
        ),
        ignore_conflicts=True,
    )


def _at_stripe(customer: Customer) -> list[gateway.Object]:
    return list(gateway.list_all("subscription_items", {"subscription": customer.stripe_subscription_id}))


def _add(customer: Customer, price: MeterPrice, *, now: datetime) -> None:
    intents.perform(
        organization=customer.organization,
        verb="create subscription item",
        reference=f"item:{customer.stripe_subscription_id}:{price.stripe_price_id}",
        params={
            "subscription": customer.stripe_subscription_id,
            "price": price.stripe_price_id,
            "proration_behavior": "none",
        },
        call=partial(gateway.create, "subscription_items"),
        look_up=lambda: next(
            (item for item in _at_stripe(customer) if item["price"]["id"] == price.stripe_price_id), None
        ),
        again=True,
        now=now,
    )
