"""Two logs held against each other, as sets: theirs is copied into a temporary table, and one join does the rest.

Ours are the newest revisions of the calls that began within the span, and those of any other time whose ids theirs
names. A call id is in exactly one class. The temporary tables are the session's: nothing of them outlives a worker.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from usage.models import Comparison

Class = Comparison.Class

_THEIRS = """
    DROP TABLE IF EXISTS their_calls;
    CREATE TEMPORARY TABLE their_calls (line int, call_id text, duration_ms bigint, micros bigint, fault text)"""

_OURS = """
    CREATE TEMPORARY TABLE our_calls AS
    SELECT c.call_id, c.started_at, c.duration_ms,
           coalesce(CASE WHEN c.revision = 1 THEN c.amount_micros ELSE ({full}) END, 0) AS micros
    FROM usage_call c
    LEFT JOIN usage_callrevision v ON c.revision > 1 AND v.organization_id = c.organization_id AND v.id = c.id
    WHERE c.organization_id = %(organization)s AND c.started_at >= %(starts_at)s AND c.started_at < %(ends_at)s
      AND NOT EXISTS (
          SELECT FROM usage_callrevision later
          WHERE later.organization_id = c.organization_id AND later.previous_id = c.id)"""

# The key is the first half of the id's SHA-256 (`storage.key_of`).
_OF_OTHER_TIMES = """
    INSERT INTO our_calls
    SELECT t.call_id, c.started_at, c.duration_ms,
           coalesce(CASE WHEN v.id IS NULL THEN c.amount_micros ELSE ({full}) END, 0)
    FROM first_rows t
    JOIN usage_callkey k ON k.organization_id = %(organization)s
     AND k.key = encode(substr(sha256(convert_to(t.call_id, 'UTF8')), 1, 16), 'hex')::uuid
    LEFT JOIN LATERAL (
        SELECT id, started_at, line_micros FROM usage_callrevision r
        WHERE r.organization_id = k.organization_id AND r.key = k.key ORDER BY revision DESC LIMIT 1
    ) AS v ON true
    JOIN usage_call c ON c.organization_id = k.organization_id AND c.started_at = coalesce(v.started_at, k.started_at)
     AND CASE WHEN v.id IS NULL THEN c.call_id = t.call_id AND c.revision = 1 ELSE c.id = v.id END
    WHERE NOT EXISTS (SELECT FROM our_calls o WHERE o.call_id = t.call_id)"""

_FULL = "SELECT sum(line) FROM unnest(v.line_micros) AS line"

# Of rows that name the same call the first counts.
_FIRST = """
    CREATE TEMPORARY TABLE first_rows AS
    SELECT DISTINCT ON (call_id) line, call_id, duration_ms, micros, fault FROM their_calls ORDER BY call_id, line"""

_COMPARE = """
    CREATE TEMPORARY TABLE compared AS
    SELECT both_logs.*, CASE
        WHEN class = 'missing_there' THEN our_micros
        WHEN class <> 'mismatch' OR fault <> '' THEN 0
        WHEN their_micros IS NOT NULL THEN greatest(0, our_micros - their_micros)
        WHEN our_ms > their_ms THEN our_micros::numeric * (our_ms - greatest(0, their_ms)) / our_ms
        ELSE 0 END::bigint AS at_stake_micros
    FROM (
        SELECT coalesce(o.call_id, t.call_id) AS call_id, o.started_at, t.line, t.fault,
               o.duration_ms AS our_ms, t.duration_ms AS their_ms, o.micros AS our_micros, t.micros AS their_micros,
               CASE
                   WHEN o.call_id IS NULL THEN 'missing_here'
                   WHEN t.call_id IS NULL THEN 'missing_there'
                   WHEN t.fault <> '' THEN 'mismatch'
                   WHEN coalesce(t.duration_ms, o.duration_ms) = o.duration_ms
                    AND coalesce(t.micros, o.micros) = o.micros THEN 'exact'
                   WHEN abs(coalesce(t.duration_ms, o.duration_ms) - o.duration_ms) <= %(tolerance_ms)s
                    AND abs(coalesce(t.micros, o.micros) - o.micros) <= %(tolerance_micros)s THEN 'within'
                   ELSE 'mismatch'
               END AS class
        FROM our_calls o FULL JOIN first_rows t ON o.call_id = t.call_id
    ) AS both_logs"""

_TOTALS = """
    SELECT class, count(*), coalesce(sum(our_micros), 0)::bigint, coalesce(sum(their_micros), 0)::bigint,
           coalesce(sum(at_stake_micros), 0)::bigint
    FROM compared GROUP BY class"""

# Guarded as exports are: a text that a spreadsheet takes for a formula gets an apostrophe.
_GUARDED = "CASE WHEN ascii({0}) IN (9, 10, 13, 43, 45, 61, 64) THEN '''' || {0} ELSE {0} END"

_FILE = """
    COPY (
        SELECT {call_id} AS call_id, line AS your_line,
               to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS started_at,
               our_ms AS our_duration_ms, their_ms AS your_duration_ms,
               (our_micros / 1000000.0)::numeric(25, 6) AS our_price,
               (their_micros / 1000000.0)::numeric(25, 6) AS your_price,
               (at_stake_micros / 1000000.0)::numeric(25, 6) AS at_stake, {fault} AS unreadable
        FROM compared WHERE class = '{name}' ORDER BY at_stake_micros DESC, compared.call_id
    ) TO STDOUT (FORMAT CSV, HEADER)"""


@dataclass(frozen=True, slots=True)
class Total:
    """One class: how many calls, what they cost here and there, and what of it is at stake, in micros."""

    calls: int
    our_micros: int
    their_micros: int
    at_stake_micros: int


def begin() -> None:
    """Make room for a log in this session; what another comparison left is gone."""
    drop()
    with connection.cursor() as cursor:
        cursor.execute(_THEIRS)


def add(rows: Iterable[tuple[int, str, int | None, int | None, str]]) -> None:
    """Add rows of theirs: line, call id, milliseconds, micros, and what could not be read."""
    statement = "COPY their_calls (line, call_id, duration_ms, micros, fault) FROM STDIN"
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(statement) as stream:
        for row in rows:
            stream.write_row(row)


def compare(
    organization_id: int, *, starts_at: datetime, ends_at: datetime, tolerance_ms: int, tolerance_micros: int
) -> tuple[dict[str, Total], int]:
    """Put every call of both logs in its class; return the totals by class, and how many rows were repeated."""
    values: dict[str, Any] = {"organization": organization_id, "starts_at": starts_at, "ends_at": ends_at}
    tolerances = {"tolerance_ms": tolerance_ms, "tolerance_micros": tolerance_micros}
    with connection.cursor() as cursor:
        cursor.execute(_FIRST)
        cursor.execute("SELECT (SELECT count(*) FROM their_calls) - (SELECT count(*) FROM first_rows)")
        repeated = int(cursor.fetchone()[0])
        cursor.execute(_OURS.format(full=_FULL), values)
        cursor.execute("ANALYZE our_calls; ANALYZE first_rows")
        cursor.execute(_OF_OTHER_TIMES.format(full=_FULL), values)
        cursor.execute(_COMPARE, tolerances)
        cursor.execute(_TOTALS)
        found = {name: Total(*rest) for name, *rest in cursor.fetchall()}
    return {name: found.get(name, Total(0, 0, 0, 0)) for name in Class.values}, repeated


def as_csv(name: str) -> Iterator[bytes]:
    """Yield the file of one class, what is most at stake first."""
    columns = {each: _GUARDED.format(f"compared.{each}") for each in ("call_id", "fault")}
    statement = _FILE.format(name=Class(name).value, **columns)
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(statement) as stream:
        yield from map(bytes, stream)


def drop() -> None:
    """Forget what was compared."""
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS their_calls, first_rows, our_calls, compared")
