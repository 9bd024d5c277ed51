"""Calls and charges on their way into PostgreSQL, set by set.

A batch travels as one JSON document, which the server unfolds: per row that costs both sides less than arrays or VALUES
(msgspec writes it in C), and nested arrays and JSON columns need no second encoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from django.db import connection

from usage.call_objects import CallObject
from usage.rating import Rating
from usage.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call to be stored: with its price, or with the products that lack one. `index` is its place in the batch."""

    index: int
    organization_id: int
    call: CallObject
    snapshot: Snapshot | None
    rating: Rating | None
    missing: list[str]


@dataclass(frozen=True, slots=True)
class RatedCall:
    """A stored call to be charged."""

    call_id: int
    organization_id: int
    started_at: datetime
    snapshot: Snapshot
    rating: Rating


# Keys are inserted in order, so that two transactions with the same calls wait for each other and never in a circle.
_INSERT = """
WITH item AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(items)s::json) AS item (
        i int, o bigint, id text, s timestamptz, e timestamptz, ms bigint, ty text, di text, st text, dr text,
        ai text, an text, pr text[], tk bigint, rq int, dg text, f text, t text, m jsonb, x jsonb,
        pv bigint, cu text, am bigint, ri bigint[], q bigint[], lm bigint[], mi text[]
    )
), fresh AS (
    INSERT INTO usage_call (
        organization_id, call_id, revision, started_at, ended_at, duration_ms, call_type, direction, status,
        disconnection_reason, agent_id, agent_name, products, llm_tokens, llm_requests, digest, received_at
    )
    SELECT o, id, 1, s, e, ms, ty, di, st, dr, ai, an, pr, tk, rq, decode(dg, 'hex'), %(now)s
    FROM item ORDER BY o, id
    ON CONFLICT (organization_id, call_id, revision) DO NOTHING
    RETURNING id AS call, organization_id AS o, call_id AS id
), detail AS (
    INSERT INTO usage_calldetail (call_id, organization_id, from_number, to_number, metadata, extra)
    SELECT call, o, f, t, m, x FROM fresh JOIN item USING (o, id)
), charge AS (
    INSERT INTO usage_charge (
        organization_id, call_id, price_version_id, started_at, currency, amount_micros, rate_ids, quantities,
        line_micros, rated_at
    )
    SELECT o, call, pv, s, cu, am, ri, q, lm, %(now)s FROM fresh JOIN item USING (o, id)
    WHERE pv IS NOT NULL ORDER BY o, s, call
), unrated AS (
    INSERT INTO usage_unratedcall (call_id, organization_id, missing, noticed_at)
    SELECT call, o, mi, %(now)s FROM fresh JOIN item USING (o, id) WHERE pv IS NULL
)
SELECT i FROM fresh JOIN item USING (o, id)
"""

_CHARGE = """
WITH item AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(items)s::json) AS item (
        o bigint, call bigint, s timestamptz, pv bigint, cu text, am bigint, ri bigint[], q bigint[], lm bigint[]
    )
), rated AS (
    DELETE FROM usage_unratedcall USING item WHERE call_id = call
)
INSERT INTO usage_charge (
    organization_id, call_id, price_version_id, started_at, currency, amount_micros, rate_ids, quantities, line_micros,
    rated_at
)
SELECT o, call, pv, s, cu, am, ri, q, lm, %(now)s FROM item ORDER BY o, s, call
"""

_DIGESTS = """
SELECT organization_id, call_id, digest FROM usage_call
JOIN unnest(%s::bigint[], %s::text[]) AS asked (o, c) ON organization_id = o AND call_id = c
"""

_UNFIT = """
SELECT i FROM unnest(%s::int[], %s::text[], %s::text[]) AS item (i, m, x)
WHERE NOT (pg_input_is_valid(m, 'jsonb') AND pg_input_is_valid(x, 'jsonb'))
"""


def insert(calls: Sequence[NewCall], *, now: datetime) -> set[int]:
    """Store those calls whose id is not known yet, with details and charges; return their indexes."""
    if not calls:
        return set()
    rows = [_row(call) for call in calls]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, {"items": msgspec.json.encode(rows).decode(), "now": now})
        return {index for (index,) in cursor.fetchall()}


def charge(calls: Sequence[RatedCall], *, now: datetime) -> None:
    """Store the charges of calls that waited for a price, which thereby wait no longer."""
    if not calls:
        return
    rows = [
        {"o": call.organization_id, "call": call.call_id, "s": call.started_at, **_charge(call.snapshot, call.rating)}
        for call in calls
    ]
    with connection.cursor() as cursor:
        cursor.execute(_CHARGE, {"items": msgspec.json.encode(rows).decode(), "now": now})


def digests(calls: Sequence[NewCall]) -> dict[tuple[int, str], list[bytes]]:
    """Return the digests of all revisions that are stored under the calls' ids."""
    known: dict[tuple[int, str], list[bytes]] = {}
    with connection.cursor() as cursor:
        keys = ([call.organization_id for call in calls], [call.call.call_id for call in calls])
        cursor.execute(_DIGESTS, keys)
        for organization_id, call_id, digest in cursor.fetchall():
            known.setdefault((organization_id, call_id), []).append(bytes(digest))
    return known


def unfit(calls: Sequence[NewCall]) -> set[int]:
    """Return the indexes of calls whose free fields PostgreSQL cannot hold, such as a number of 20,000 digits."""
    indexes = [call.index for call in calls]
    metadata = [bytes(call.call.metadata).decode() for call in calls]
    extra = [bytes(call.call.extra).decode() for call in calls]
    with connection.cursor() as cursor:
        cursor.execute(_UNFIT, (indexes, metadata, extra))
        return {index for (index,) in cursor.fetchall()}


def _row(new: NewCall) -> dict[str, Any]:
    call, facts = new.call, new.call.facts
    return {
        "i": new.index,
        "o": new.organization_id,
        "id": call.call_id,
        "s": call.started_at,
        "e": call.ended_at,
        "ms": facts.duration_ms,
        "ty": call.call_type,
        "di": call.direction,
        "st": call.status,
        "dr": call.disconnection_reason,
        "ai": call.agent_id,
        "an": call.agent_name,
        "pr": facts.products,
        "tk": facts.llm_tokens,
        "rq": facts.llm_requests,
        "dg": call.digest.hex(),
        "f": call.from_number,
        "t": call.to_number,
        "m": call.metadata,
        "x": call.extra,
        "mi": new.missing,
        **(_charge(new.snapshot, new.rating) if new.snapshot and new.rating else {}),
    }


def _charge(snapshot: Snapshot, rating: Rating) -> dict[str, Any]:
    return {
        "pv": snapshot.version_id,
        "cu": snapshot.currency,
        "am": rating.amount_micros,
        "ri": [line.rate_id for line in rating.lines],
        "q": [line.quantity for line in rating.lines],
        "lm": [line.micros for line in rating.lines],
    }
