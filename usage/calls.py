"""Calls as lists show them: filtered, in an order, paged by key: a deep page costs as the first.

Time is the order that the table's key has. By cost and by length there is no index, which every recorded call would pay
for: a span that is not too long is sorted for each page instead, and of a longer one that is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

from django.db import connection

from usage import revisions
from usage.models import Agent, Call, CallDetail, CallKey, CallRevision, UnratedCall
from usage.storage import key_of


class Cursor(NamedTuple):
    """The place of the last call of a page in the order of the list; `value` is what it is sorted by beside time."""

    started_at: datetime
    id: int
    value: int | None = None


class Order(Enum):
    """The orders of a list. Those by time go along the table's key, so that every page is read from where it begins."""

    NEWEST = "newest"
    OLDEST = "oldest"
    DEAREST = "dearest"
    LONGEST = "longest"


class TooManyToSort(Exception):
    """The span holds more than `most` calls, which no page can sort in time."""

    def __init__(self, most: int) -> None:
        super().__init__(f"There are more than {most:,} calls.")
        self.most = most


@dataclass(frozen=True, slots=True)
class Filters:
    """Which calls: a half-open span of starts, and what else must be so; empty means any."""

    starts_at: datetime | None = None
    ends_at: datetime | None = None
    product: str = ""
    agent_id: str = ""
    status: str = ""
    direction: str = ""
    call_id_prefix: str = ""
    metadata_key: str = ""
    metadata_value: str = ""


class ListedCall(NamedTuple):
    """One row of a list. `amount_micros` is None while no price covers the call, `sequence` until it is settled.

    Each revision has a row, with what was charged of it, so a list adds up. One that `is_corrected` is not the newest.
    """

    id: int
    call_id: str
    started_at: datetime
    duration_ms: int
    status: str
    direction: str
    agent_id: str
    agent_name: str
    products: list[str]
    amount_micros: int | None
    sequence: int | None
    revision: int
    given_back_micros: int
    is_corrected: bool


_PAGE = """
    SELECT c.id, c.call_id, c.started_at, c.duration_ms, k.status, k.direction, a.reference, a.name, m.products,
           c.amount_micros, r.first_sequence + c.id - r.first_id, c.revision, coalesce(v.given_back_micros, 0),
           EXISTS (SELECT FROM usage_callrevision l
                   WHERE l.organization_id = c.organization_id AND l.previous_id = c.id)
    FROM ({calls} ORDER BY {order} LIMIT %(limit)s) AS c
    JOIN usage_callkind k ON k.id = c.kind_id
    JOIN usage_agent a ON a.id = c.agent_id
    JOIN usage_productmix m ON m.id = c.mix_id
    LEFT JOIN LATERAL (
        SELECT first_id, last_id, first_sequence FROM usage_callrange
        WHERE organization_id = c.organization_id AND first_id <= c.id ORDER BY first_id DESC LIMIT 1
    ) AS r ON r.last_id >= c.id
    LEFT JOIN usage_callrevision v ON c.revision > 1 AND v.organization_id = c.organization_id AND v.id = c.id
    ORDER BY {order}"""
# What a list may be sorted by: what has no price yet comes last.
_SORTED_BY = {Order.DEAREST: "coalesce(c.amount_micros, -1)", Order.LONGEST: "c.duration_ms"}
_ORDERED = {
    Order.NEWEST: "c.started_at DESC, c.id DESC",
    Order.OLDEST: "c.started_at, c.id",
    **{order: f"{value} DESC, c.started_at DESC, c.id DESC" for order, value in _SORTED_BY.items()},
}

# What is searched for one page of a filter that few calls match: the next page goes on from there. Without it one page
# of the largest organization would read millions of calls.
SEARCHED = 5_000
# A filter by metadata looks each call's details up, which costs several times as much.
_SEARCHED_WITH_DETAILS = 1_500
# So many calls are sorted by what no index has, for each page anew; fewer, where each one's details are looked up.
SORTED = 100_000
SORTED_WITH_DETAILS = 20_000

_COUNTED = "SELECT count(*) FROM (SELECT FROM usage_call c WHERE {place} LIMIT %(sorted)s + 1) AS c"

_SEARCHED = "(SELECT * FROM usage_call c WHERE {place} ORDER BY {order} LIMIT %(searched)s)"
_EDGE = """
    SELECT c.started_at, c.id FROM usage_call c WHERE {place} ORDER BY {order} OFFSET %(searched)s - 1 LIMIT 1"""


def page(
    organization_id: int,
    filters: Filters,
    *,
    order: Order = Order.NEWEST,
    after: Cursor | None = None,
    limit: int = 50,
) -> tuple[Sequence[ListedCall], Cursor | None]:
    """Return up to `limit` calls after the cursor, and the cursor from which to go on, None at the end.

    A page may be short, and even empty, and not be the last: `SEARCHED` calls are looked at for one. Raises
    TooManyToSort for an order by cost or length.
    """
    if order in _SORTED_BY:
        return _sorted_page(organization_id, filters, order=order, after=after, limit=limit)
    place, values = _place(organization_id, filters, order, after)
    wanted, more = _wanted(filters)
    values |= more | {"limit": limit + 1, "searched": _searched(filters), "organization": organization_id}
    words = {"place": place, "order": _ORDERED[order]}
    calls = f"SELECT * FROM usage_call c WHERE {place}"
    if wanted:
        calls = f"SELECT * FROM {_SEARCHED.format(**words)} AS c WHERE {' AND '.join(wanted)}"
    with connection.cursor() as cursor:
        cursor.execute(_PAGE.format(calls=calls, **words), values)
        rows = [ListedCall(*row) for row in cursor.fetchall()]
        shown = rows[:limit]
        if len(rows) > limit:
            return shown, Cursor(shown[-1].started_at, shown[-1].id)
        if not wanted:
            return shown, None
        cursor.execute(_EDGE.format(**words), values)
        edge = cursor.fetchone()
    return shown, Cursor(*edge) if edge else None


def _sorted_page(
    organization_id: int, filters: Filters, *, order: Order, after: Cursor | None, limit: int
) -> tuple[Sequence[ListedCall], Cursor | None]:
    """Return a page of all calls of the span, sorted. Raises TooManyToSort."""
    place, values = _place(organization_id, filters, order, None)
    wanted, more = _wanted(filters)
    most = min(SORTED, SORTED_WITH_DETAILS) if filters.metadata_key else SORTED
    values |= more | {"limit": limit + 1, "sorted": most, "organization": organization_id}
    if after:
        wanted.append(f"({_SORTED_BY[order]}, c.started_at, c.id) < (%(after)s, %(after_at)s, %(after_id)s)")
        values |= {"after": after.value, "after_at": after.started_at, "after_id": after.id}
    calls = f"SELECT * FROM usage_call c WHERE {' AND '.join([place, *wanted])}"
    with connection.cursor() as cursor:
        cursor.execute(_COUNTED.format(place=place), values)
        if cursor.fetchone()[0] > most:
            raise TooManyToSort(most)
        cursor.execute(_PAGE.format(calls=calls, order=_ORDERED[order]), values)
        rows = [ListedCall(*row) for row in cursor.fetchall()]
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    amount = -1 if last.amount_micros is None else last.amount_micros
    value = amount if order is Order.DEAREST else last.duration_ms
    return rows[:limit], Cursor(last.started_at, last.id, value)


def _searched(filters: Filters) -> int:
    return min(SEARCHED, _SEARCHED_WITH_DETAILS) if filters.metadata_key else SEARCHED


def agents(organization_id: int, *, most: int) -> list[tuple[str, str]]:
    """Return (reference, name) of up to `most` agents, each reference once, in their order."""
    rows = Agent.objects.filter(organization_id=organization_id).exclude(reference="")
    return list(rows.order_by("reference", "-id").distinct("reference").values_list("reference", "name")[:most])


def find(organization_id: int, call_id: str) -> Call | None:
    """Return the organization's call with the vendor's id, in its newest revision."""
    key = {"organization_id": organization_id, "key": key_of(call_id)}
    calls = Call.objects.filter(organization_id=organization_id, call_id=call_id)
    newest = CallRevision.objects.filter(**key).order_by("-revision").first()
    if newest is None:
        calls = calls.filter(started_at__in=CallKey.objects.filter(**key).values("started_at"))
    else:
        calls = calls.filter(started_at=newest.started_at, id=newest.id)
    return calls.select_related("organization", "mix", "kind", "agent").first()


def all_revisions(call: Call) -> list[Call]:
    """Return a call in all its revisions, the first one first; what is in the archive is left out."""
    if call.revision == 1:
        return [call]
    later = revisions.all_of(call.organization_id, call.call_id)
    first = CallKey.objects.filter(organization_id=call.organization_id, key=key_of(call.call_id)).first()
    starts = {each.started_at for each in later} | ({first.started_at} if first else set())
    found = Call.objects.filter(
        organization_id=call.organization_id, call_id=call.call_id, started_at__in=sorted(starts)
    )
    return list(found.select_related("organization", "mix", "kind", "agent").order_by("revision"))


# A probe of the ranges' key for each organization, as that key begins with it.
_SPANS = """
    SELECT o.id, r.starts_at, r.ends_at FROM accounts_organization o
    CROSS JOIN LATERAL (
        SELECT last_id, starts_at, ends_at FROM usage_callrange
        WHERE organization_id = o.id AND first_id <= %(id)s ORDER BY first_id DESC LIMIT 1
    ) AS r
    WHERE r.last_id >= %(id)s"""


def spans_of(call_number: int) -> list[tuple[int, datetime, datetime]]:
    """Return where to look for the call with this number, whose organization is not known: (organization, from, to)."""
    with connection.cursor() as cursor:
        cursor.execute(_SPANS, {"id": call_number})
        return list(cursor.fetchall())


def detail(call: Call) -> CallDetail | None:
    """Return what is personal or free-form about a call; None if nothing is, or if it was erased."""
    return CallDetail.objects.filter(
        organization_id=call.organization_id, started_at=call.started_at, id=call.id
    ).first()


def unrated(call: Call) -> UnratedCall | None:
    """Return what keeps a call from having a price, None for one that has it."""
    return UnratedCall.objects.filter(organization_id=call.organization_id, id=call.id).first()


def conditions_of(organization_id: int, filters: Filters) -> tuple[list[str], dict[str, Any]]:
    """Return all conditions on a call `c`, as SQL with named values, for whoever reads every call that a list shows."""
    place, values = _place(organization_id, filters, Order.NEWEST, None)
    wanted, more = _wanted(filters)
    return [place, *wanted], values | more | {"organization": organization_id}


def _place(organization_id: int, filters: Filters, order: Order, after: Cursor | None) -> tuple[str, dict[str, Any]]:
    """Return where to look, as SQL with named values: what the key of the table finds. No value stands in the SQL."""
    conditions = ["c.organization_id = %(organization)s"]
    values: dict[str, Any] = {"starts_at": filters.starts_at, "ends_at": filters.ends_at}
    # A second bound beside the cursor's would make the planner read the whole month: the cursor is the tighter one.
    if filters.starts_at and not (after and order is Order.OLDEST):
        conditions.append("c.started_at >= %(starts_at)s")
    if filters.ends_at and not (after and order is Order.NEWEST):
        conditions.append("c.started_at < %(ends_at)s")
    if after:
        sign = "<" if order is Order.NEWEST else ">"
        conditions.append(f"(c.started_at, c.id) {sign} (%(after_at)s, %(after_id)s)")
        values |= {"after_at": after.started_at, "after_id": after.id}
    if filters.call_id_prefix:
        # A whole id is found wherever it is.
        key = CallKey.objects.filter(organization_id=organization_id, key=key_of(filters.call_id_prefix))
        if started_at := key.values_list("started_at", flat=True).first():
            later = revisions.all_of(organization_id, filters.call_id_prefix)
            conditions.append("c.started_at = ANY(%(found_at)s)")
            values["found_at"] = sorted({started_at, *(each.started_at for each in later)})
    return " AND ".join(conditions), values


_WANTED = {
    "product": "c.mix_id IN (SELECT id FROM usage_productmix WHERE products @> ARRAY[%(product)s]::varchar[])",
    "agent_id": """c.agent_id IN (
        SELECT id FROM usage_agent WHERE organization_id = %(organization)s AND reference = %(agent_id)s)""",
    "status": "c.kind_id IN (SELECT id FROM usage_callkind WHERE status = %(status)s)",
    "direction": "c.kind_id IN (SELECT id FROM usage_callkind WHERE direction = %(direction)s)",
    "call_id_prefix": "starts_with(c.call_id, %(call_id_prefix)s)",
    "metadata_key": """EXISTS (
        SELECT FROM usage_calldetail d WHERE d.organization_id = c.organization_id AND d.started_at = c.started_at
        AND d.id = c.id AND d.metadata ->> %(metadata_key)s = %(metadata_value)s)""",
}


def _wanted(filters: Filters) -> tuple[list[str], dict[str, str]]:
    """Return what the calls must be like, as SQL with named values."""
    values = {name: value for name in _WANTED if (value := getattr(filters, name))}
    return [_WANTED[name] for name in values], values | {"metadata_value": filters.metadata_value}
