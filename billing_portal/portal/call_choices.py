"""What the list of calls can be filtered by: products, agents and metadata that there are, remembered for a minute."""

from typing import NamedTuple

from django.core.cache import cache

from accounts import queueing
from accounts.models import Organization
from billing_portal.portal.date_ranges import Days
from usage import calls, metadata_usage, rollups
from usage.models import Component

_AGENTS = 200
_SECONDS = 60


class Choices(NamedTuple):
    """Products used on the days, (reference, name) of agents, and metadata keys of the newest calls."""

    products: list[str]
    agents: list[tuple[str, str]]
    keys: list[str]


def of(organization: Organization, days: Days) -> Choices:
    """Return the choices; whoever turns page after page does not ask the database for them each time."""
    key = f"call-choices:{organization.pk}:{days.starts_on}:{days.ends_on}"
    try:
        known = cache.get(key)
        if known is None:
            known = tuple(_look_up(organization, days))
            cache.set(key, known, timeout=_SECONDS)
    except queueing.UNREACHABLE:
        return _look_up(organization, days)
    return Choices(*known)


def _look_up(organization: Organization, days: Days) -> Choices:
    used = rollups.by_product(organization.pk, starts_on=days.starts_on, ends_on=days.ends_on)
    products = {each.product for each in used if each.component != Component.TOKEN_SURCHARGE}
    keys = [name for name, _ in metadata_usage.seen_keys(organization.pk)]
    return Choices(sorted(products), calls.agents(organization.pk, most=_AGENTS), keys)
