"""Giving the bucket that was paid for: what its offer said when it was asked for, from the payment on."""

from datetime import datetime

from billing_portal.billing.models import Purchase
from billing_portal.ledger import buckets
from billing_portal.ledger.models import Bucket
from usage import periods


def deliver(purchase: Purchase, *, now: datetime) -> Bucket:
    """Put the bucket of a paid purchase into the books, once; its term begins now. Raises what the ledger raises."""
    offer = purchase.offer
    assert offer is not None  # a constraint of the table
    terms = buckets.Terms(
        outcomes=tuple(offer.outcomes),
        size=offer.size,
        price_micros=purchase.amount_micros,
        starts_at=now,
        expires_at=periods.months_after(now, offer.term_months, purchase.organization.zone),
    )
    return buckets.add(purchase.organization_id, terms, reference=purchase.reference, now=now)
