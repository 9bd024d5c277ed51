"""A list that stays open: whether it asks for what is new, and what it is told."""

from dataclasses import dataclass
from urllib.parse import urlencode

from django.urls import reverse

from accounts.models import Organization
from billing_portal.portal.call_list import Filters
from usage import arrivals
from usage.calls import Order

_MOST = 100


@dataclass(frozen=True, slots=True)
class News:
    """What an open list needs to ask again: where, and up to which call it knows; `count` calls it does not show."""

    url: str
    show_url: str
    newest: int
    count: int = 0

    @property
    def count_text(self) -> str:
        return f"{_MOST - 1}+ new calls" if self.count >= _MOST else f"{self.count} new call{'s' * (self.count != 1)}"


def at_first(organization: Organization, filters: Filters, *, is_first_page: bool, today_shown: bool) -> News | None:
    """Return how a list just read goes on; None for one to which nothing new can come at its top."""
    if not (is_first_page and today_shown and filters.order is Order.NEWEST):
        return None
    newest = arrivals.newest(organization.pk)
    return _news(organization, filters, seen=newest, newest=newest)


def since(organization: Organization, filters: Filters, *, seen: int, newest: int) -> News:
    """Return what has arrived since the call with id `seen`."""
    count = arrivals.count(organization.pk, filters.of_calls, seen=seen, most=_MOST) if newest > seen else 0
    return _news(organization, filters, seen=seen, newest=newest, count=count)


def _news(organization: Organization, filters: Filters, *, seen: int, newest: int, count: int = 0) -> News:
    here, news = (reverse(name, args=[organization.public_id]) for name in ("calls", "new_calls"))
    return News(
        url=f"{news}?{urlencode(filters.parameters | {'seen': str(seen)})}",
        show_url=filters.address(here, since=str(seen)),
        newest=newest,
        count=count,
    )
