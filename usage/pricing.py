"""Which prices are a call's: the version in force at its start, or the first later one that has its products."""

from dataclasses import dataclass
from datetime import datetime

from usage.prices import Catalog
from usage.rating import CallFacts, ProductsUnpriced, Rating, rate
from usage.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class Payer:
    """The organization that an item names."""

    id: int
    currency: str


def price(
    catalog: Catalog, payer: Payer, facts: CallFacts, started_at: datetime, now: datetime
) -> tuple[Snapshot | None, Rating | None, list[str]]:
    """Return the version that prices a call and what it costs; or, without one, the products that lack a price."""
    missing = list(facts.products)
    versions = catalog.candidates(organization_id=payer.id, currency=payer.currency, at=started_at, now=now)
    for position, snapshot in enumerate(versions):
        try:
            return snapshot, rate(facts, snapshot), []
        except ProductsUnpriced as error:
            missing = error.products if position == 0 else missing
    return None, None, missing
