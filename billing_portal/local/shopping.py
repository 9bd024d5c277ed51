"""The demo's customers who pay ahead: one buys credit, another lets it be bought before it runs out.

They go the way of the pages: asked for here, paid at the sandbox, credited by the worker when its webhook says so.
"""

import time
from collections.abc import Sequence
from datetime import timedelta

from django.db.models import Sum

from accounts import clock
from accounts.models import Membership, Organization, User
from billing_portal.billing import purchase_tasks, purchases, top_up_orders, top_ups
from billing_portal.billing.models import PaymentMethod, Purchase
from usage import samples

_BOUGHT_MICROS = 100_000_000
_TOP_UP = {"threshold_micros": 25_000_000, "amount_micros": 50_000_000, "ceiling_micros": 150_000_000}
_PATIENCE = timedelta(minutes=5)


class NotCredited(Exception):
    """What was bought has not become credit in time; carries which purchases."""


def pay_ahead(customers: Sequence[samples.SampleOrganization]) -> None:
    """Let the largest customer buy credit, and the next order top-ups, once; wait until the credit is there.

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


def summary() -> str:
    """Return in a sentence what was bought so far."""
    credited = Purchase.objects.filter(state=Purchase.State.CREDITED)
    micros = credited.aggregate(micros=Sum("amount_micros"))["micros"] or 0
    top_ups_made = credited.filter(origin=Purchase.Origin.TOP_UP).count()
    by_hand = credited.count() - top_ups_made
    return (
        f"{micros / 1_000_000:,.2f} of credit was bought ahead: {by_hand} by hand, {top_ups_made} by automatic top-up."
    )


def _buy(organization: Organization) -> None:
    purchase = purchases.ask(
        organization=organization,
        user=_owner(organization),
        micros=_BOUGHT_MICROS,
        currency=organization.currency,
        way=Purchase.Way.CARD,
        key=purchases.next_key(organization),
        now=clock.now(),
        payment_method=PaymentMethod.objects.get(organization=organization, removed_at=None, is_default=True),
    )
    purchase_tasks.ask_to_advance(purchase, at_once=True)


def _wait_for(*organizations: Organization) -> None:
    give_up_at = time.monotonic() + _PATIENCE.total_seconds()
    waiting = organizations
    while waiting:
        if time.monotonic() > give_up_at:
            found = Purchase.objects.filter(organization__in=waiting)
            raise NotCredited(
                "; ".join(f"{each}: {each.state} {each.failure}" for each in found) or "none was asked for"
            )
        time.sleep(0.2)
        credited = Purchase.objects.filter(state=Purchase.State.CREDITED).values_list("organization_id", flat=True)
        waiting = tuple(each for each in waiting if each.pk not in set(credited))


def _owner(organization: Organization) -> User:
    return User.objects.get(memberships__organization=organization, memberships__role=Membership.Role.OWNER)
