"""The buckets on sale: what is offered at an instant, and loading offers from a document.

[[offers]]
code = "resolutions-5000"             # names the offer through all its prices
outcomes = ["resolution"]
size = 5000
term_months = 12                      # optional; this is the default
starts_at = 2026-01-01T00:00:00Z      # on sale from then on; a later one under the same code takes its place
ends_at = 2027-01-01T00:00:00Z        # optional: no more on sale from then on

[offers.prices]                       # before tax, in major units and quotes; an offer of its own in each currency
USD = "4200.00"
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import msgspec
from django.db import transaction

from billing_portal.billing import minor_units
from billing_portal.billing.models import BucketOffer
from usage.models import OutcomeType
from usage.money import MICROS_PER_UNIT
from usage.price_documents import PriceDocumentInvalid, Slug

_MOST_MICROS = 10**15  # a billion


class OfferWasBought(Exception):
    """An offer that was bought is kept as it is; enter a new one under its code, with a later start."""

    def __init__(self, offer: BucketOffer) -> None:
        super().__init__(f"{offer} was bought and cannot be changed; only its sale can end.")
        self.offer = offer


class OfferEntry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    code: Slug
    outcomes: Annotated[list[OutcomeType], msgspec.Meta(min_length=1)]
    size: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    starts_at: datetime
    prices: Annotated[dict[Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")], str], msgspec.Meta(min_length=1)]
    term_months: Annotated[int, msgspec.Meta(ge=1, le=60)] = 12
    ends_at: datetime | None = None


class OfferDocument(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    offers: Annotated[list[OfferEntry], msgspec.Meta(min_length=1)]


def on_sale(currency: str, *, now: datetime) -> list[BucketOffer]:
    """Return what can be bought now in a currency, the smallest first; under each code the newest that has started."""
    started = BucketOffer.objects.filter(currency=currency, starts_at__lte=now)
    newest = started.order_by("code", "-starts_at", "-id").distinct("code")
    return sorted(
        (offer for offer in newest if offer.ends_at is None or offer.ends_at > now),
        key=lambda offer: (_order(offer.outcomes), offer.term_months, offer.size, offer.price_micros, offer.pk),
    )


def _order(outcomes: Iterable[str]) -> list[int]:
    """Return where a kind of bucket stands among the others: as outcome types are listed everywhere."""
    return sorted(OutcomeType.values.index(each) for each in outcomes)


def in_force(code: str, currency: str, *, at: datetime) -> BucketOffer | None:
    """Return what is sold under a code at an instant, or None."""
    return next((offer for offer in on_sale(currency, now=at) if offer.code == code), None)


def load(document: dict[str, Any], *, now: datetime) -> list[BucketOffer]:
    """Enter the offers of a parsed document, all or none; return those that are new or changed.

    The same document again changes nothing. Raises PriceDocumentInvalid, OfferWasBought.
    """
    try:
        entries = msgspec.convert(document, OfferDocument).offers
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        raise PriceDocumentInvalid(path.strip("`").lstrip("."), reason) from None
    with transaction.atomic():
        entered = [
            _enter(entry, currency, _micros(f"offers[{position}].prices.{currency}", price, currency), now=now)
            for position, entry in enumerate(entries)
            if _is_timed(f"offers[{position}]", entry)
            for currency, price in sorted(entry.prices.items())
        ]
    return [offer for offer in entered if offer is not None]


def _enter(entry: OfferEntry, currency: str, price_micros: int, *, now: datetime) -> BucketOffer | None:
    """Enter one offer; None if it stands there already."""
    terms: dict[str, Any] = {
        "outcomes": sorted(str(each) for each in entry.outcomes),
        "size": entry.size,
        "price_micros": price_micros,
        "term_months": entry.term_months,
    }
    ends_at = entry.ends_at.astimezone(UTC) if entry.ends_at else None
    known, is_new = BucketOffer.objects.get_or_create(
        code=entry.code,
        currency=currency,
        starts_at=entry.starts_at.astimezone(UTC),
        defaults=terms | {"ends_at": ends_at, "created_at": now},
    )
    if is_new:
        return known
    changes = {name: value for name, value in terms.items() if getattr(known, name) != value}
    if changes and known.purchases.exists():
        raise OfferWasBought(known)
    if not changes and known.ends_at == ends_at:
        return None
    for name, value in (changes | {"ends_at": ends_at}).items():
        setattr(known, name, value)
    known.save()
    return known


def _is_timed(path: str, entry: OfferEntry) -> bool:
    for name in ("starts_at", "ends_at"):
        instant = getattr(entry, name)
        if instant is not None and instant.tzinfo is None:
            raise PriceDocumentInvalid(f"{path}.{name}", "Expected an instant with an offset.")
    if entry.ends_at is not None and entry.ends_at < entry.starts_at:
        raise PriceDocumentInvalid(f"{path}.ends_at", "It ends before it starts.")
    if len(set(entry.outcomes)) != len(entry.outcomes):
        raise PriceDocumentInvalid(f"{path}.outcomes", "Each type stands once.")
    return True


def _micros(path: str, price: str, currency: str) -> int:
    """Return a price in micros; it is charged at once, so it is whole minor units that a card can be charged with."""
    try:
        exact = Decimal(price) * MICROS_PER_UNIT
    except InvalidOperation:
        raise PriceDocumentInvalid(path, f"'{price}' is not a decimal number.") from None
    if not exact.is_finite() or exact != int(exact) or not 0 < exact <= _MOST_MICROS:
        raise PriceDocumentInvalid(path, f"{price} cannot be charged.")
    if not is_chargeable(int(exact), currency):
        raise PriceDocumentInvalid(path, f"{price} {currency} cannot be charged to a card.")
    return int(exact)


def is_chargeable(price_micros: int, currency: str) -> bool:
    """Say whether a price is whole minor units of its currency, in steps that Stripe charges."""
    minor = minor_units.from_micros(price_micros, currency)
    return minor_units.to_micros(minor, currency) == price_micros and minor_units.is_chargeable(minor, currency)
