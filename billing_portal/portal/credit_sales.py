"""What the pages say of bought credit: the standing order and how it stands, and the latest purchases."""

from datetime import datetime
from typing import Any

from accounts.models import Organization
from billing_portal.billing import purchases, top_up_orders, top_ups
from billing_portal.billing.models import Purchase

_LATEST = 5


def summary(organization: Organization, *, now: datetime) -> dict[str, Any]:
    """Return the standing order in force or the last one, where it stands, and the latest purchases."""
    order = top_up_orders.latest(organization)
    is_on = order is not None and order.ended_at is None
    bought_micros = top_ups.bought_this_month(organization, now=now) if is_on else 0
    return {
        "order": order,
        "is_on": is_on,
        "need": top_ups.need(order, now=now) if order and is_on else None,
        "bought_micros": bought_micros,
        "is_at_ceiling": order is not None and bought_micros + order.amount_micros > order.ceiling_micros,
        "top_up_under_way": purchases.open_purchase(organization, Purchase.Origin.TOP_UP),
        "latest_purchases": list(
            Purchase.objects.filter(organization=organization, kind=Purchase.Kind.CREDIT).order_by("-id")[:_LATEST]
        ),
        "is_sold": organization.currency in purchases.currencies(),
    }
