"""The calls behind one component of a billing month: what an invoice line opens into."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db import connection

from usage.models import Component


@dataclass(frozen=True, slots=True)
class ComponentCharge:
    """One settled call's part of a component: its micros, and its number in the order of settlement."""

    sequence: int
    call_id: str
    started_at: datetime
    duration_ms: int
    agent_name: str
    products: list[str]
    micros: int


_PAGE = """
    SELECT ch.sequence, c.call_id, c.started_at, c.duration_ms, c.agent_name,
           (SELECT array_agg(r.product ORDER BY r.product) FROM usage_pricerate r
            WHERE r.id = ANY (ch.rate_ids) AND r.component = %(component)s),
           (SELECT sum(l.micros) FROM unnest(ch.rate_ids, ch.line_micros) AS l (rate_id, micros)
            JOIN usage_pricerate r ON r.id = l.rate_id WHERE r.component = %(component)s)
    FROM usage_charge ch JOIN usage_call c ON c.id = ch.call_id
    WHERE ch.organization_id = %(organization)s AND ch.billed_month = %(month)s AND ch.sequence > %(after)s
      AND ch.rate_ids && ARRAY(SELECT id FROM usage_pricerate WHERE component = %(component)s)
    ORDER BY ch.sequence LIMIT %(limit)s"""


def charges_of(
    *, organization_id: int, month: date, component: Component, after: int = 0, limit: int = 50
) -> Iterator[ComponentCharge]:
    """Yield the month's calls that used `component`, in the order of settlement, from past number `after` on."""
    values: dict[str, Any] = {
        "organization": organization_id,
        "month": month,
        "component": str(component),
        "after": after,
        "limit": limit,
    }
    with connection.cursor() as cursor:
        cursor.execute(_PAGE, values)
        for sequence, call_id, started_at, duration_ms, agent_name, products, micros in cursor.fetchall():
            yield ComponentCharge(
                sequence=sequence,
                call_id=call_id,
                started_at=started_at,
                duration_ms=duration_ms,
                agent_name=agent_name,
                products=products,
                micros=int(micros),
            )
