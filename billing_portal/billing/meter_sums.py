"""What Stripe's meters have summed up. That is asynchronous: an event just accepted may be missing for a while."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime

from billing_portal.billing import cycles, gateway
from billing_portal.billing.models import Customer, Meter


def counted(meter: Meter, customer: Customer, starts_at: datetime, ends_at: datetime) -> int:
    """Return the micros that Stripe has summed up of a customer's events in a half-open span of whole minutes."""
    summaries = gateway.list_meter_event_summaries(
        meter.stripe_meter_id,
        customer=customer.stripe_customer_id,
        start_time=int(starts_at.timestamp()),
        end_time=int(ends_at.timestamp()),
    )
    return sum(int(summary["aggregated_value"]) for summary in summaries)


def differences(organization_id: int, month: date, reported: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    """Yield (component, reported, Stripe's) in micros wherever Stripe's sum of a month is not what was reported."""
    customer = Customer.objects.get(organization_id=organization_id)
    starts_at, ends_at = cycles.bounds(month)
    for meter in Meter.objects.order_by("id"):
        ours, theirs = reported.get(meter.component, 0), counted(meter, customer, starts_at, ends_at)
        if ours != theirs:
            yield meter.component, ours, theirs
