"""The list of calls as pages ask for it: filters, order and cursors from an address, rows for a template."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import NamedTuple
from urllib.parse import quote, urlencode

from django.http import QueryDict
from django.urls import reverse

from accounts.models import Organization
from billing_portal.portal import date_ranges, formats
from billing_portal.portal.date_ranges import Days
from usage import archived, calls
from usage.archived import ArchivedMonth
from usage.calls import Order

STATUSES = (
    ("ended", "Ended"),
    ("not_connected", "Not connected"),
    ("error", "Error"),
    ("cancelled", "Cancelled"),
    ("ongoing", "Ongoing"),
    ("registered", "Registered"),
)
DIRECTIONS = (("inbound", "Inbound"), ("outbound", "Outbound"))
ORDERS = (
    (Order.NEWEST.value, "Newest first"),
    (Order.OLDEST.value, "Oldest first"),
    (Order.DEAREST.value, "Dearest first"),
    (Order.LONGEST.value, "Longest first"),
)
PAGE_SIZE = 50
_TONES = {"ended": "good", "error": "bad"}
# What an address may filter by, besides the days.
_NAMES = ("product", "agent", "status", "direction", "call_id", "key", "value")


@dataclass(frozen=True, slots=True)
class Filters:
    """What a person filters by, as the form shows it, and the same for the query."""

    days: Days
    product: str
    agent: str
    status: str
    direction: str
    call_id: str
    key: str
    value: str
    order: Order
    of_calls: calls.Filters

    @classmethod
    def of(cls, query: QueryDict, *, days: Days, zone: tzinfo) -> "Filters":
        """Read the filters of an address."""
        asked = {name: _plain(query.get(name, "")) for name in _NAMES}
        order = query.get("sort", "")
        return cls(
            days=days,
            **asked,
            order=Order(order) if order in {each.value for each in Order} else Order.NEWEST,
            of_calls=calls.Filters(
                starts_at=date_ranges.starts_at(days, zone),
                ends_at=date_ranges.ends_at(days, zone),
                product=asked["product"],
                agent_id=asked["agent"],
                status=asked["status"],
                direction=asked["direction"],
                call_id_prefix=asked["call_id"],
                metadata_key=asked["key"] if asked["value"] else "",
                metadata_value=asked["value"],
            ),
        )

    @property
    def parameters(self) -> dict[str, str]:
        """What names this list in an address, and nothing besides: no page, no name that says nothing."""
        named = {name: value for name in _NAMES if (value := getattr(self, name))}
        order = {} if self.order is Order.NEWEST else {"sort": self.order.value}
        return self.days.parameters | named | order

    def address(self, here: str, **changes: str) -> str:
        """Return an address with these parameters, changed; an empty value takes one out."""
        wanted = {name: value for name, value in (self.parameters | changes).items() if value}
        return f"{here}?{urlencode(wanted)}"


class Row(NamedTuple):
    """One call as the table shows it, every cell formatted, so that the template only puts them in their places."""

    url: str
    started: str
    call_id: str
    agent: str
    status: str
    tone: str
    duration: str
    cost: str
    state: str
    is_new: bool
    mark: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of calls; `next_cursor` is empty on the last. One that is partial may be short, with more to come.

    Of more calls than `unsorted_above` the order that was asked for cannot be had: these are the newest first.
    """

    calls: list[Row]
    is_later: bool
    is_partial: bool
    next_cursor: str
    unsorted_above: int | None = None


def page(organization: Organization, filters: Filters, *, cursor: str, since: int | None = None) -> Page:
    """Return the page that `cursor` names; the first for an empty or an unreadable one.

    Calls recorded after the one with id `since` are marked as new.
    """
    order, unsorted_above = filters.order, None
    after = _read(cursor, order)
    try:
        shown, following = calls.page(organization.pk, filters.of_calls, order=order, after=after, limit=PAGE_SIZE)
    except calls.TooManyToSort as refused:
        after, unsorted_above = _read(cursor, Order.NEWEST), refused.most
        shown, following = calls.page(organization.pk, filters.of_calls, after=after, limit=PAGE_SIZE)
    return Page(
        calls=_rows(organization, shown, since),
        is_later=after is not None,
        is_partial=following is not None and len(shown) < PAGE_SIZE,
        next_cursor=_write(following) if following else "",
        unsorted_above=unsorted_above,
    )


def latest(organization: Organization, *, limit: int) -> list[Row]:
    """Return the newest calls."""
    shown, _ = calls.page(organization.pk, calls.Filters(), limit=limit)
    return _rows(organization, shown, None)


def archived_months(organization: Organization, filters: Filters) -> Sequence[ArchivedMonth]:
    """Return the months of the asked days whose calls are in no list and no file any more."""
    return archived.months(
        organization.pk,
        starts_at=date_ranges.starts_at(filters.days, organization.zone),
        ends_at=date_ranges.ends_at(filters.days, organization.zone),
    )


def number(text: str) -> int | None:
    """Return the whole number that a text is, None for any other text and for one that no id reaches."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def agent_choices(agents: Sequence[tuple[str, str]], chosen: str) -> list[tuple[str, str]]:
    """Return (reference, words) of agents by their names; the one that is filtered by is always among them."""
    named = {reference: f"{name} · {reference}" if name else reference for reference, name in agents}
    if chosen:
        named.setdefault(chosen, chosen)
    return sorted(named.items(), key=lambda choice: (choice[1].casefold(), choice[0]))


def label(code: str) -> str:
    """Return a code of the vendor's as words: "user_hangup" is "User hangup"."""
    return dict(STATUSES).get(code) or code.replace("_", " ").capitalize()


def _plain(text: str) -> str:
    """Return what a person may have typed: no NUL, which the database cannot hold, and no longer than an id is."""
    return text.replace("\0", "").strip()[:128]


def _rows(organization: Organization, shown: Sequence[calls.ListedCall], since: int | None) -> list[Row]:
    """Return the rows of a table. What all of them share is looked up once."""
    here = reverse("calls", args=[organization.public_id])
    zone, currency, locale = organization.zone, organization.currency, formats.active_locale()
    return [
        Row(
            url=f"{here}{quote(call.call_id, safe='')}/",
            started=formats.moment(call.started_at, zone, locale=locale),
            call_id=call.call_id,
            agent=call.agent_name or call.agent_id or "–",
            status=label(call.status),
            tone=_TONES.get(call.status, "neutral"),
            duration=formats.duration(call.duration_ms),
            cost="" if call.amount_micros is None else formats.money_exact(call.amount_micros, currency, locale=locale),
            state=_state(call, currency),
            is_new=since is not None and call.id > since,
            mark=_mark(call),
        )
        for call in shown
    ]


def _state(call: calls.ListedCall, currency: str) -> str:
    """Say below a call's cost what is not final about it, or what was given back of what it cost before."""
    if not call.sequence:
        return "being settled"
    given_back = call.given_back_micros
    return f"{formats.money_exact(given_back, currency)} given back" if given_back else ""


def _mark(call: calls.ListedCall) -> str:
    """Say which revision of a corrected call a row is; each is charged for what it costs more."""
    if call.revision == 1:
        return "Corrected since" if call.is_corrected else ""
    return f"Revision {call.revision}{', corrected since' if call.is_corrected else ''}"


def _write(cursor: calls.Cursor) -> str:
    value = "" if cursor.value is None else f" {cursor.value}"
    return base64.urlsafe_b64encode(f"{cursor.started_at.isoformat()} {cursor.id}{value}".encode()).decode()


def _read(text: str, order: Order) -> calls.Cursor | None:
    """Return the cursor that a text is; None for one of another kind of order, too."""
    try:
        started_at, call, *value = base64.urlsafe_b64decode(text).decode().split(" ")
        cursor = calls.Cursor(datetime.fromisoformat(started_at), int(call), *map(int, value))
    except (TypeError, ValueError, binascii.Error):
        return None
    is_by_time = order in {Order.NEWEST, Order.OLDEST}
    return cursor if (cursor.value is None) == is_by_time else None
