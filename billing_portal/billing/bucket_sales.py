"""Buying a bucket: with the saved card or through Checkout, by the same walk as credit."""

import uuid
from datetime import datetime

from accounts.models import Organization, User
from billing_portal.billing import bucket_offers, purchases
from billing_portal.billing.models import BucketOffer, PaymentMethod, Purchase


class OfferNotOnSale(ValueError):
    """The offer is not on sale to the organization now: it has ended, changed its price, or is of another currency."""


def ask(
    *,
    organization: Organization,
    user: User,
    offer: BucketOffer,
    way: Purchase.Way,
    key: uuid.UUID,
    now: datetime,
    payment_method: PaymentMethod | None = None,
    return_url: str = "",
) -> Purchase:
    """Record that `user` wants to buy the bucket as offered, once per `key`; nothing is sent to Stripe yet.

    The price is the offer's, whatever is offered by the time it is paid. Raises OfferNotOnSale, and what
    `purchases.ask_once` raises.
    """
    if not was_asked_for(organization, offer, key) and offer not in bucket_offers.on_sale(
        organization.currency, now=now
    ):
        raise OfferNotOnSale(offer)
    return purchases.ask_once(
        organization,
        public_id=key,
        way=way,
        payment_method=payment_method,
        kind=Purchase.Kind.BUCKET,
        offer=offer,
        currency=offer.currency,
        amount_micros=offer.price_micros,
        asked_by=user,
        return_url=return_url,
        asked_at=now,
    )


def was_asked_for(organization: Organization, offer: BucketOffer, key: uuid.UUID) -> bool:
    """Say whether this form has bought the offer already, so that sending it again is no new purchase."""
    return Purchase.objects.filter(organization=organization, public_id=key, offer=offer).exists()
