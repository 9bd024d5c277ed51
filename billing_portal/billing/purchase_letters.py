"""What is told by e-mail of purchases and top-ups: what a person has to do, and what happened without one."""

from datetime import datetime

from accounts import letters
from billing_portal.billing.models import BucketRenewal, Purchase, TopUp
from usage import periods

State = Purchase.State


def tell(purchase: Purchase, *, now: datetime) -> None:
    """Tell of the state that a purchase has just entered, if anybody has to know."""
    if purchase.state == State.NEEDS_ACTION:
        _write("purchase_needs_action", purchase, now)
    elif purchase.state == State.CREDITED and purchase.top_up is not None:
        _write("top_up_credited", purchase, now)
    elif purchase.state == State.CREDITED and purchase.renewal is not None:
        _write("bucket_renewed", purchase, now)


def tell_switched_off(purchase: Purchase, *, now: datetime) -> None:
    """Tell that a standing order ended with the purchase that could not be paid (F35)."""
    _write("top_up_switched_off", purchase, now)


def tell_renewal_ended(renewal: BucketRenewal, reason: str, *, now: datetime) -> None:
    """Tell that a bucket is not bought again after all, and why."""
    letters.write(
        template="emails/bucket_renewal_ended",
        reference=f"bucket_renewal_ended:{renewal.pk}",
        to=letters.billing_addresses(renewal.organization),
        organization=renewal.organization,
        bucket=renewal.bucket,
        reason=reason,
        now=now,
    )


def tell_ceiling(order: TopUp, *, now: datetime) -> None:
    """Tell, once a month, that the ceiling keeps credit from being bought."""
    month = periods.month_of(now, order.organization.zone)
    letters.write(
        template="emails/top_up_ceiling",
        reference=f"top_up_ceiling:{order.pk}:{month}",
        to=letters.billing_addresses(order.organization),
        organization=order.organization,
        order=order,
        now=now,
    )


def _write(name: str, purchase: Purchase, now: datetime) -> None:
    letters.write(
        template=f"emails/{name}",
        reference=f"{name}:{purchase.public_id}",
        to=letters.billing_addresses(purchase.organization),
        organization=purchase.organization,
        purchase=purchase,
        bucket=purchase.bucket,
        now=now,
    )
