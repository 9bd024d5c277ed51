"""Buying a bucket, or a larger one in its place, with the saved card or through Checkout: by the walk of credit."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from accounts.models import Organization, User
from billing_portal.billing import bucket_claims, bucket_offers, minor_units, purchases
from billing_portal.billing.models import BucketOffer, PaymentMethod, Purchase
from billing_portal.ledger.models import Bucket

# A payment may take days to be confirmed; nothing is sold that might be over by then.
LEAST_REST = timedelta(days=7)


class OfferNotOnSale(ValueError):
    """The offer is not on sale to the organization now: it has ended, changed its price, or is of another currency."""


class UpgradeRefused(ValueError):
    """The bucket cannot be upgraded to this offer: see `upgrades_of` for those it can."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A larger offer for a bucket: what it adds, and what that costs, as if it had been bought at the beginning."""

    bucket: Bucket
    before: BucketOffer
    offer: BucketOffer

    @property
    def units(self) -> int:
        return self.offer.size - self.before.size

    @property
    def price_micros(self) -> int:
        return self.offer.price_micros - self.before.price_micros


def upgrades_of(bucket: Bucket, *, now: datetime) -> list[Upgrade]:
    """Return what a bucket can be upgraded to, the smallest first: larger and dearer offers of the same kind and term.

    None in its last week, and none for one that was not bought here, in whose place a larger one stands already, or
    whose payment is disputed or went back.
    """
    bought = Purchase.objects.filter(bucket=bucket).select_related("offer").first()
    if bought is None or bought.offer is None:
        return []
    if bucket.expires_at - now < LEAST_REST or bucket.starts_at > now or bucket.replaced_by.exists():
        return []
    if bucket_claims.is_touched(bucket):
        return []
    found = (Upgrade(bucket, bought.offer, offer) for offer in bucket_offers.on_sale(bucket.currency, now=now))
    return [each for each in found if _is_larger(each)]


def _is_larger(upgrade: Upgrade) -> bool:
    before, offer = upgrade.before, upgrade.offer
    is_same_kind = (before.outcomes, before.term_months) == (offer.outcomes, offer.term_months)
    is_dearer = minor_units.from_micros(upgrade.price_micros, offer.currency) > 0
    return is_same_kind and upgrade.units > 0 and is_dearer


def ask(
    *,
    organization: Organization,
    user: User,
    offer: BucketOffer,
    way: Purchase.Way,
    key: uuid.UUID,
    now: datetime,
    upgrades: Bucket | None = None,
    renews: bool = False,
    payment_method: PaymentMethod | None = None,
    return_url: str = "",
) -> Purchase:
    """Record that `user` wants to buy the bucket as offered, once per `key`; nothing is sent to Stripe yet.

    With `upgrades` it takes that bucket's place, for the difference of the prices. The price is that of now, whatever
    is offered by the time it is paid. Raises OfferNotOnSale, UpgradeRefused, and what `purchases.ask_once` raises.
    """
    known = Purchase.objects.filter(organization=organization, public_id=key, offer=offer).first()
    price_micros = known.amount_micros if known else _price(organization, offer, upgrades, now=now)
    return purchases.ask_once(
        organization,
        public_id=key,
        way=way,
        payment_method=payment_method,
        kind=Purchase.Kind.BUCKET,
        offer=offer,
        upgrades=upgrades,
        renews=renews,
        currency=offer.currency,
        amount_micros=price_micros,
        asked_by=user,
        return_url=return_url,
        asked_at=now,
    )


def _price(organization: Organization, offer: BucketOffer, upgrades: Bucket | None, *, now: datetime) -> int:
    """Return what is to be paid now, before tax."""
    if offer not in bucket_offers.on_sale(organization.currency, now=now):
        raise OfferNotOnSale(offer)
    if upgrades is None:
        return offer.price_micros
    if upgrades.organization_id != organization.pk:
        raise UpgradeRefused(offer)
    found = next((each for each in upgrades_of(upgrades, now=now) if each.offer == offer), None)
    if found is None:
        raise UpgradeRefused(offer)
    return found.price_micros
