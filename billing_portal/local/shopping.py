"""The demo's customers who pay ahead: one buys credit and a bucket, another has credit bought before it runs out.

They go the way of the pages: asked for here, paid at the sandbox, credited by the worker when its webhook says so.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db.models import Sum

from accounts import clock
from accounts.models import Membership, Organization, User
from billing_portal.billing import bucket_offers, bucket_sales, purchase_tasks, purchases, top_up_orders, top_ups
from billing_portal.billing.models import PaymentMethod, Purchase
from usage import samples

_BOUGHT_MICROS = 100_000_000
_BUCKET = "resolutions-5000"
_TOP_UP = {"threshold_micros": 25_000_000, "amount_micros": 50_000_000, "ceiling_micros": 150_000_000}
_PATIENCE = timedelta(minutes=5)


class NotCredited(Exception):
    """What was bought was not given in time; carries which purchases."""


def pay_ahead(customers: Sequence[samples.SampleOrganization]) -> None:
    """Let the largest customer buy credit and a bucket, and the next order top-ups, once; wait until all is there.

    Raises NotCredited.
    """
    found = [Organization.objects.get(reference=sample.reference) for sample in customers[:2]]
    buyer, order_giver = found[0], found[-1]
    if not Purchase.objects.filter(organization=buyer).exists():
        _buy(buyer)
    if top_up_orders.in_force(order_giver) is None:
        top_ups.switch_on(organization=order_giver, user=_owner(order_giver), now=clock.now(), **_TOP_UP)
        purchase_tasks.ask_to_check(order_giver.pk)
    _wait_for(buyer, order_giver)
    # One purchase of a person's is under way at a time.
    buckets = Purchase.objects.filter(organization=buyer, kind=Purchase.Kind.BUCKET)
    if not buckets.exists():
        _buy_bucket(buyer)
    if buckets.exists():
        _wait_for(buyer, kind=Purchase.Kind.BUCKET)


def summary() -> str:
    """Return in a sentence what was bought so far."""
    given = Purchase.objects.filter(state=Purchase.State.CREDITED)
    credited = given.filter(kind=Purchase.Kind.CREDIT)
    buckets = given.filter(kind=Purchase.Kind.BUCKET).count()
    micros = credited.aggregate(micros=Sum("amount_micros"))["micros"] or 0
    top_ups_made = credited.filter(origin=Purchase.Origin.TOP_UP).count()
    by_hand = credited.count() - top_ups_made
    return (
        f"{micros / 1_000_000:,.2f} of credit was bought ahead: {by_hand} by hand, {top_ups_made} by automatic top-up; "
        f"and {buckets} bucket{'' if buckets == 1 else 's'} of outcomes."
    )


def _buy(organization: Organization) -> None:
    purchase = purchases.ask(
        organization=organization,
        micros=_BOUGHT_MICROS,
        currency=organization.currency,
        **_by_card(organization),
    )
    purchase_tasks.ask_to_advance(purchase, at_once=True)


def _buy_bucket(organization: Organization) -> None:
    offer = bucket_offers.in_force(_BUCKET, organization.currency, at=clock.now())
    if offer is not None:
        purchase = bucket_sales.ask(organization=organization, offer=offer, **_by_card(organization))
        purchase_tasks.ask_to_advance(purchase, at_once=True)


def _by_card(organization: Organization) -> dict[str, Any]:
    """Return by whom and with what something is bought, as the pages would say it."""
    return {
        "user": _owner(organization),
        "way": Purchase.Way.CARD,
        "key": purchases.next_key(organization),
        "now": clock.now(),
        "payment_method": PaymentMethod.objects.get(organization=organization, removed_at=None, is_default=True),
    }


def _wait_for(*organizations: Organization, kind: Purchase.Kind = Purchase.Kind.CREDIT) -> None:
    give_up_at = time.monotonic() + _PATIENCE.total_seconds()
    waiting = organizations
    while waiting:
        if time.monotonic() > give_up_at:
            found = Purchase.objects.filter(organization__in=waiting, kind=kind)
            raise NotCredited(
                "; ".join(f"{each}: {each.state} {each.failure}" for each in found) or "none was asked for"
            )
        time.sleep(0.2)
        given = Purchase.objects.filter(state=Purchase.State.CREDITED, kind=kind)
        there = set(given.values_list("organization_id", flat=True))
        waiting = tuple(each for each in waiting if each.pk not in there)


def _owner(organization: Organization) -> User:
    return User.objects.get(memberships__organization=organization, memberships__role=Membership.Role.OWNER)
