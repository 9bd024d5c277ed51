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


# Only mixes that have the component are read.
_PAGE = """
    SELECT r.first_sequence + c.id - r.first_id AS sequence, c.call_id, c.started_at, c.duration_ms, a.name,
           ARRAY(SELECT rate.product FROM unnest(m.rate_ids) AS used JOIN usage_pricerate rate ON rate.id = used
                 WHERE rate.component = %(component)s ORDER BY rate.product),
           (SELECT sum(line.micros) FROM unnest(m.rate_ids, c.line_micros) AS line (rate_id, micros)
            JOIN usage_pricerate rate ON rate.id = line.rate_id WHERE rate.component = %(component)s) AS micros
    FROM usage_callrange r
    JOIN usage_call c ON c.organization_id = r.organization_id
     AND c.started_at BETWEEN r.starts_at AND r.ends_at AND c.id BETWEEN r.first_id AND r.last_id
    JOIN usage_productmix m ON m.id = c.mix_id
    JOIN usage_agent a ON a.id = c.agent_id
    WHERE r.organization_id = %(organization)s AND r.billed_month = %(month)s
      AND r.first_sequence + r.last_id - r.first_id > %(after)s
      AND r.first_sequence + c.id - r.first_id > %(after)s
      AND cardinality(c.line_micros) > 0
      AND m.rate_ids && ARRAY(SELECT id FROM usage_pricerate WHERE component = %(component)s)
    ORDER BY r.first_sequence, c.id"""


def charges_of(
    *, organization_id: int, month: date, component: Component, after: int = 0, limit: int = 50
) -> Iterator[ComponentCharge]:
    """Yield the month's calls that have a line of `component`, in the order of settlement, past number `after`."""
    values: dict[str, Any] = {
        "organization": organization_id,
        "month": month,
        "component": str(component),
        "after": after,
        "limit": limit,
    }
    query = f"SELECT * FROM ({_PAGE}) AS line WHERE micros <> 0 LIMIT %(limit)s"
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        for *facts, micros in cursor.fetchall():
            yield ComponentCharge(*facts, int(micros))  # type: ignore[call-arg]
