"""Calls as a backfill reads them, chunk by chunk, and what other prices change of each. Nothing is written here."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db import connection

from usage import corrections, deltas
from usage.backfills import plans
from usage.deltas import Delta
from usage.models import BackfillPart
from usage.prices import Catalog
from usage.rating import AmountOutOfRange, CallFacts, ProductsUnpriced, rate
from usage.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class Seen:
    """A call's newest revision as a chunk finds it: its facts and its price in full, None where it waits for one."""

    call_id: str
    id: int
    started_at: datetime
    facts: CallFacts
    rate_ids: list[int]
    line_micros: list[int] | None

    @property
    def place(self) -> tuple[datetime, int]:
        return self.started_at, self.id


class Change(NamedTuple):
    """What a call costs now, in micros, and what other prices change; None where they cannot price it."""

    before_micros: int
    delta: Delta | None


# Rows are read in the order of the table's key, each chunk from the place where the last one ended. A revision that the
# backfill made itself stands behind the call that it replaces.
_CHUNK = """
    SELECT c.call_id, c.id, c.started_at, c.duration_ms, m.products, c.llm_tokens, c.llm_requests, m.rate_ids,
           CASE WHEN c.amount_micros IS NOT NULL THEN coalesce(v.line_micros, c.line_micros) END
    FROM usage_call c
    JOIN usage_productmix m ON m.id = c.mix_id
    LEFT JOIN usage_callrevision v ON c.revision > 1 AND v.organization_id = c.organization_id AND v.id = c.id
    WHERE c.organization_id = %s AND c.started_at < %s AND (c.started_at, c.id) > (%s, %s)
      AND NOT EXISTS (SELECT FROM usage_callrevision l
                      WHERE l.organization_id = c.organization_id AND l.previous_id = c.id)
      AND (v.origin IS DISTINCT FROM 'backfill' OR v.author_id <> %s)
    ORDER BY c.started_at, c.id LIMIT %s"""


def chunk(part: BackfillPart, after: tuple[datetime | None, int], limit: int) -> list[Seen]:
    """Return the next calls of a part that started on its days, each in its newest revision."""
    starts_at, ends_at = plans.span(part.organization, part.backfill.starts_on, part.backfill.ends_on)
    after_at, after_id = after
    with connection.cursor() as cursor:
        cursor.execute(
            _CHUNK, [part.organization_id, ends_at, after_at or starts_at, after_id, part.backfill_id, limit]
        )
        rows = cursor.fetchall()
    return [
        Seen(call_id, number, at, CallFacts(ms, tuple(products), tokens, requests), rate_ids, lines)
        for call_id, number, at, ms, products, tokens, requests, rate_ids, lines in rows
    ]


def change(seen: Seen, snapshot: Snapshot, catalog: Catalog) -> Change:
    """Return what `snapshot` changes of a call. One that waits for its price goes on waiting."""
    if seen.line_micros is None:
        return Change(0, None)
    components = [catalog.refs[each].component for each in seen.rate_ids]
    before = deltas.by_component(components, seen.line_micros)
    try:
        return Change(before.total(), corrections.change(before, rate(seen.facts, snapshot)))
    except (ProductsUnpriced, AmountOutOfRange):
        return Change(before.total(), None)
