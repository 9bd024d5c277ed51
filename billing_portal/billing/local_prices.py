"""What a price is about in the customer's own currency: an estimate for them to read, never an amount that is charged.

The rates are those that staff enter (`ExchangeRate`), each with its day and its source. What a customer really pays in
their own currency, Stripe says in Checkout (Adaptive Pricing), and the purchase keeps it.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction

from babel.core import get_global
from babel.numbers import get_territory_currencies

from accounts.models import Organization
from billing_portal.billing import minor_units
from billing_portal.billing.models import ExchangeRate
from billing_portal.billing.tax import details
from usage import periods
from usage.money import MICROS_PER_UNIT

# An older rate tells nothing: then there is no estimate.
MOST_AGE = timedelta(days=45)
_DIGITS, _RATE_DIGITS = 3, 5


@dataclass(frozen=True, slots=True)
class LocalRate:
    """How much of the customer's currency one unit of the account's is, when, and by whom."""

    base: str
    currency: str
    rate: Fraction
    as_of: date
    source: str

    def about(self, micros: int) -> int:
        """Return what micros of the base are about in the other currency, in micros; three digits that count. Pure."""
        unit = minor_units.micros_per_unit(self.currency)
        return max(unit, to_digits(micros * self.rate, _DIGITS)) // unit * unit if micros else 0

    @property
    def unit_micros(self) -> int:
        """Return what one unit of the base is worth, with five digits that count."""
        return to_digits(MICROS_PER_UNIT * self.rate, _RATE_DIGITS)


def currency_of(organization: Organization, *, now: datetime) -> str:
    """Return the currency of the country that the billing address is in, else of that whose clocks they live by.

    Empty where that is no country, as in UTC, or has no currency of its own.
    """
    billed = details.current(organization)
    territory = billed.country if billed else get_global("zone_territories").get(organization.time_zone)
    if territory is None or len(territory) != 2:
        return ""
    today = periods.day_of(now, organization.zone)
    return next(iter(get_territory_currencies(territory, start_date=today)), "")


def rate_for(organization: Organization, *, now: datetime) -> LocalRate | None:
    """Return the rate to estimate prices of an organization by; None where its currency is its own, or unknown."""
    local = currency_of(organization, now=now)
    if not local or local == organization.currency:
        return None
    return rate(organization.currency, local, today=periods.day_of(now, organization.zone))


def rate(base: str, quote: str, *, today: date) -> LocalRate | None:
    """Return the newest rate between two currencies: as entered, or over a third one that has both on one day."""
    known = ExchangeRate.objects.filter(as_of__lte=today, as_of__gte=today - MOST_AGE, quote__in=[base, quote])
    found: dict[tuple[date, str], dict[str, ExchangeRate]] = {}
    for each in known.order_by("-as_of", "base", "id"):
        found.setdefault((each.as_of, each.base), {})[each.quote] = each
    for (as_of, third), rates in found.items():
        value = _between(rates, third, base, quote)
        if value is not None:
            source = next(iter(rates.values())).source
            return LocalRate(base, quote, value, as_of, source)
    return None


def _between(rates: dict[str, ExchangeRate], third: str, base: str, quote: str) -> Fraction | None:
    """Return units of the quote for one of the base, by what one unit of a third currency is of either."""
    worth = {name: Fraction(each.quote_micros, MICROS_PER_UNIT) for name, each in rates.items()} | {third: Fraction(1)}
    return worth[quote] / worth[base] if base in worth and quote in worth else None


def to_digits(micros: Fraction | int, digits: int) -> int:
    """Return an amount rounded to so many digits that count: 1,482.6 yen with three of them are 1,480. Pure."""
    step = int(10 ** max(0, len(str(abs(round(micros)))) - digits))
    return round(micros / step) * step
