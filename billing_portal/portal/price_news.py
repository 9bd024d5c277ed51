"""What calls of an organization cost: the prices in force, those to come, and what they mean on its own last month."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from accounts.models import Organization
from billing_portal.portal import proposal_news
from billing_portal.portal.proposal_news import OnTheLastMonth
from usage import price_texts, prices
from usage.models import Component, PriceImpact, PriceVersion
from usage.price_texts import RateChange
from usage.snapshots import Rate, Snapshot, Unit


@dataclass(frozen=True, slots=True)
class Coming:
    """A version that is not in force yet, beside the one that it follows."""

    version: PriceVersion
    headline: str
    rates: list[RateChange]
    terms: list[str]
    last_month: OnTheLastMonth | None


@dataclass(frozen=True, slots=True)
class Priced:
    """One product as a customer reads its price."""

    label: str
    unit: str
    micros: int
    is_surcharge: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """What a call that starts now costs, by component, and what comes after it."""

    starts_at: datetime | None
    components: list[tuple[str, list[Priced]]]
    coming: list[Coming]


def of(organization: Organization, *, now: datetime) -> Standing:
    """Return the prices in force for an organization, and those to come."""
    in_force = prices.snapshot_for(organization, now)
    followed, coming = in_force, []
    for starts_at in _starts_after(organization, now):
        snapshot = prices.snapshot_for(organization, starts_at)
        if snapshot is not None and snapshot.starts_at == starts_at:
            coming.append(_coming(organization, followed, snapshot))
            followed = snapshot
    return Standing(
        starts_at=in_force.starts_at if in_force else None,
        components=_components(in_force) if in_force else [],
        coming=coming,
    )


def _starts_after(organization: Organization, now: datetime) -> list[datetime]:
    books = Q(book__organization=organization) | Q(book__is_default=True, book__currency=organization.currency)
    return sorted(set(PriceVersion.objects.filter(books, starts_at__gt=now).values_list("starts_at", flat=True)))


def _coming(organization: Organization, before: Snapshot | None, after: Snapshot) -> Coming:
    impacts = PriceImpact.objects.filter(organization=organization, proposal__version=after.version_id)
    impact = impacts.select_related("proposal").first()
    last_month = proposal_news.of_prices(impact)
    return Coming(
        version=PriceVersion.objects.get(pk=after.version_id),
        headline=proposal_news.headline(last_month, organization.currency, of="calls", what="prices"),
        rates=price_texts.rate_changes(before, after),
        terms=price_texts.term_changes(before, after),
        last_month=last_month,
    )


def _components(snapshot: Snapshot) -> list[tuple[str, list[Priced]]]:
    rates = [*snapshot.rates.values(), *([snapshot.surcharge] if snapshot.surcharge else [])]
    found = []
    for component in Component:
        of_it = sorted((rate for rate in rates if rate.component == component), key=lambda rate: rate.label)
        if of_it:
            found.append((str(component.label), [_priced(rate) for rate in of_it]))
    return found


def _priced(rate: Rate) -> Priced:
    unit = Unit(rate.unit)
    return Priced(rate.label or rate.product, str(unit.label), rate.rate_micros, unit == Unit.SURCHARGE)
