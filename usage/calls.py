"""Calls as lists show them: filtered, newest first, paged by key, so that a deep page costs as much as the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from usage.models import Call


class Cursor(NamedTuple):
    """The place of the last call of a page in the order of the list."""

    started_at: datetime
    id: int


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


class ListedCall(NamedTuple):
    """One row of a list. `amount_micros` is None while no price covers the call, `sequence` until it is settled."""

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


_PAGE = """
    SELECT c.id, c.call_id, c.started_at, c.duration_ms, c.status, c.direction, c.agent_id, c.agent_name, c.products,
           ch.amount_micros, ch.sequence
    FROM usage_call c LEFT JOIN usage_charge ch ON ch.call_id = c.id
    WHERE {conditions}
    ORDER BY c.started_at DESC, c.id DESC LIMIT %(limit)s"""


def page(
    organization_id: int, filters: Filters, *, after: Cursor | None = None, limit: int = 50
) -> tuple[Sequence[ListedCall], Cursor | None]:
    """Return up to `limit` calls after the cursor, and the cursor of the next page, None at the end."""
    conditions, values = _conditions(organization_id, filters, after)
    query = _PAGE.format(conditions=" AND ".join(conditions))
    with connection.cursor() as cursor:
        cursor.execute(query, values | {"limit": limit + 1})
        rows = [ListedCall(*row) for row in cursor.fetchall()]
    shown = rows[:limit]
    following = Cursor(shown[-1].started_at, shown[-1].id) if len(rows) > limit else None
    return shown, following


def find(organization_id: int, call_id: str) -> Call | None:
    """Return the organization's call with the vendor's id, in its newest revision."""
    calls = Call.objects.filter(organization_id=organization_id, call_id=call_id)
    return calls.order_by("-revision").first()


def _conditions(organization_id: int, filters: Filters, after: Cursor | None) -> tuple[list[str], dict[str, Any]]:
    """Return the conditions as SQL with named values. No value ever stands in the SQL itself."""
    conditions = ["c.organization_id = %(organization)s"]
    values: dict[str, Any] = {"organization": organization_id}
    if filters.starts_at:
        conditions.append("c.started_at >= %(starts_at)s")
        values["starts_at"] = filters.starts_at
    # A second upper bound beside the cursor would make the planner read the whole month: the cursor is the tighter one.
    if after:
        conditions.append("(c.started_at, c.id) < (%(after_at)s, %(after_id)s)")
        values |= {"after_at": after.started_at, "after_id": after.id}
    elif filters.ends_at:
        conditions.append("c.started_at < %(ends_at)s")
        values["ends_at"] = filters.ends_at
    if filters.product:
        conditions.append("c.products @> ARRAY[%(product)s]::varchar[]")
        values["product"] = filters.product
    for name in ("agent_id", "status", "direction"):
        if wanted := getattr(filters, name):
            conditions.append(f"c.{name} = %({name})s")
            values[name] = wanted
    if filters.call_id_prefix:
        conditions.append("starts_with(c.call_id, %(prefix)s)")
        values["prefix"] = filters.call_id_prefix
    return conditions, values
