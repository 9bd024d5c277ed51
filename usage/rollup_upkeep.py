"""The rollups kept as calls are settled: folded in, corrected, made anew and proved.

Folding is addition, so the order and the size of batches change nothing; `rebuild` adds everything anew. The live way
and the rebuild share their SQL: what they sum up, by which day and hour, is written once.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper


class MixMicros(NamedTuple):
    """What calls of one mix cost on one day, by the places of the mix's rates."""

    organization_id: int
    mix_id: int
    line_micros: list[int]


def _calls(ranges: str) -> str:
    """Return the query of the calls of settled ranges, each with its day and hour.

    Of a later revision it gives the money alone; what else that changes is in `_changes`.
    """
    return f"""
        SELECT r.organization_id, r.billed_month, (c.started_at AT TIME ZONE r.time_zone)::date AS date,
               date_trunc('hour', c.started_at, r.time_zone) AS hour_at, c.mix_id, c.agent_id, c.revision,
               c.duration_ms, c.llm_tokens, c.amount_micros, c.line_micros
        FROM {ranges} AS r
        JOIN usage_call c ON c.organization_id = r.organization_id
         AND c.started_at BETWEEN r.starts_at AND r.ends_at AND c.id BETWEEN r.first_id AND r.last_id"""


def _changes(ranges: str) -> str:
    """Return the query of what settled revisions change besides money: themselves, and, taken off, what they replace.

    `lines` are prices in full, `charged` what of them `_calls` has counted already.
    """
    return f"""
        SELECT r.organization_id, r.billed_month, (c.started_at AT TIME ZONE c.time_zone)::date AS date,
               date_trunc('hour', c.started_at, c.time_zone) AS hour_at, c.mix_id, c.agent_id, c.calls, c.duration_ms,
               c.llm_tokens, c.lines, c.charged
        FROM {ranges} AS r
        JOIN usage_callrevision v ON v.organization_id = r.organization_id AND v.id BETWEEN r.first_id AND r.last_id
        JOIN usage_call n ON n.organization_id = v.organization_id AND n.started_at = v.started_at AND n.id = v.id
        LEFT JOIN usage_call o ON o.organization_id = v.organization_id AND o.started_at = v.replaces_at
         AND o.id = v.replaces_id
        LEFT JOIN usage_callrevision w ON w.organization_id = v.organization_id AND w.id = v.replaces_id
        CROSS JOIN LATERAL (VALUES
            (1, n.started_at, r.time_zone, n.mix_id, n.agent_id, n.duration_ms, n.llm_tokens::bigint, v.line_micros,
             n.line_micros),
            (-1, o.started_at, coalesce(nullif(v.replaces_zone, ''), r.time_zone), o.mix_id, o.agent_id,
             -o.duration_ms, -o.llm_tokens::bigint, coalesce(w.line_micros, o.line_micros), '{{}}'::bigint[])
        ) AS c (calls, started_at, time_zone, mix_id, agent_id, duration_ms, llm_tokens, lines, charged)
        WHERE c.started_at IS NOT NULL"""


# All ids of a range are of one block of the sequence of ids. So all calls of an organization find their ranges by hash,
# where comparing each with all of them would take hours. Whose calls are meant is said of them too: PostgreSQL follows
# an equality to the joined table, not an `ANY`, and would sort everybody's for one organization.
_OF_ORGANIZATIONS = "organization_id = ANY(%(organizations)s)"
_SETTLED = f"(SELECT * FROM usage_callrange WHERE {_OF_ORGANIZATIONS} AND first_sequence IS NOT NULL)"
_SETTLED_CALLS = f"""{_calls(_SETTLED)} AND (c.id - 1) / 10000 = (r.first_id - 1) / 10000
         AND c.{_OF_ORGANIZATIONS}"""
_SETTLED_CHANGES = f"""{_changes(_SETTLED)} AND (v.id - 1) / 10000 = (r.first_id - 1) / 10000
         AND v.{_OF_ORGANIZATIONS}"""
_COUNT = "count(*) FILTER (WHERE c.revision = 1)"
# `usage_sum` of bigints is one, 0 of nothing: PostgreSQL's own is a numeric, and takes twice as long.
_MS = "usage_sum(c.duration_ms) FILTER (WHERE c.revision = 1)"
_TOKENS = "usage_sum(c.llm_tokens) FILTER (WHERE c.revision = 1)"
_MICROS = "usage_sum(c.amount_micros)"


def _lines(places: range) -> tuple[str, str]:
    """Return the sums of calls and of micros by line, with a place for every line that any mix has."""
    calls = ", ".join(f"count(*) FILTER (WHERE c.line_micros[{n}] <> 0)" for n in places)
    micros = ", ".join(f"usage_sum(c.line_micros[{n}])" for n in places)
    return f"ARRAY[{calls}]::bigint[]", f"ARRAY[{micros}]::bigint[]"


def _mix_days(calls: str, places: range) -> str:
    """Return the query of the cube's cells."""
    line_calls, line_micros = _lines(places)
    return f"""
        SELECT organization_id, billed_month, date, c.mix_id, {_COUNT} AS calls, {_MS} AS duration_ms,
               {_TOKENS} AS llm_tokens, {_MICROS} AS micros,
               {line_calls} AS line_calls, {line_micros} AS line_micros
        FROM {calls} AS c GROUP BY organization_id, billed_month, date, c.mix_id"""


def _changed_mix_days(changes: str, places: range) -> str:
    """Return the query of what corrections change in the cube's cells."""
    line_calls = ", ".join(
        f"sum(c.calls * (coalesce(c.lines[{n}], 0) <> 0)::int - (coalesce(c.charged[{n}], 0) <> 0)::int)"
        for n in places
    )
    return f"""
        SELECT organization_id, billed_month, date, c.mix_id, sum(c.calls)::bigint AS calls,
               sum(c.duration_ms)::bigint AS duration_ms, sum(c.llm_tokens)::bigint AS llm_tokens, 0::bigint AS micros,
               ARRAY[{line_calls}]::bigint[] AS line_calls,
               array_fill(0::bigint, ARRAY[{len(places)}]) AS line_micros
        FROM {changes} AS c GROUP BY organization_id, billed_month, date, c.mix_id"""


def _cut_to_mix(cells: str) -> str:
    """Return cells with as many places as their mix has lines."""
    return f"""
        SELECT organization_id, billed_month, date, mix_id, calls, duration_ms, llm_tokens, micros,
               line_calls[:cardinality(m.rate_ids)], line_micros[:cardinality(m.rate_ids)]
        FROM ({cells}) AS cell JOIN usage_productmix m ON m.id = cell.mix_id"""


def _added_mix_days(cells: str, places: range) -> str:
    """Return cells of which several may be for the same place, added up."""
    calls, micros = (", ".join(f"usage_sum({name}[{n}])" for n in places) for name in ("line_calls", "line_micros"))
    return f"""
        SELECT organization_id, billed_month, date, mix_id, usage_sum(calls) AS calls,
               usage_sum(duration_ms) AS duration_ms, usage_sum(llm_tokens) AS llm_tokens,
               usage_sum(micros) AS micros, ARRAY[{calls}] AS line_calls, ARRAY[{micros}] AS line_micros
        FROM ({cells}) AS part GROUP BY organization_id, billed_month, date, mix_id"""


def _agent_days(calls: str) -> str:
    return f"""
        SELECT organization_id, date, c.agent_id, {_COUNT} AS calls, {_MS} AS duration_ms, {_MICROS} AS micros
        FROM {calls} AS c GROUP BY 1, 2, 3"""


def _hours(calls: str) -> str:
    return f"""
        SELECT organization_id, hour_at, {_COUNT} AS calls, {_MS} AS duration_ms, {_MICROS} AS micros
        FROM {calls} AS c GROUP BY 1, 2"""


def _changed(place: str, changes: str) -> str:
    """Return the query of what corrections change in the cells that `place` names."""
    return f"""
        SELECT organization_id, {place}, sum(c.calls)::bigint, sum(c.duration_ms)::bigint, 0::bigint
        FROM {changes} AS c GROUP BY organization_id, {place}"""


def _added(place: str, calls: str, changes: str) -> str:
    """Return the query of the cells of calls and of corrections, added up."""
    return f"""
        SELECT organization_id, {place}, sum(calls)::bigint, sum(duration_ms)::bigint, sum(micros)::bigint
        FROM ({calls} UNION ALL {changes}) AS part GROUP BY organization_id, {place}"""


def _all_places() -> range:
    """Return the places of all lines that a call may have, at least one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(cardinality(rate_ids)), 1) FROM usage_productmix")
        return range(1, max(1, int(cursor.fetchone()[0])) + 1)


_DAY_COLUMNS = (
    "organization_id, billed_month, date, mix_id, calls, duration_ms, llm_tokens, micros, line_calls, line_micros"
)
_AGENT_COLUMNS = "organization_id, date, agent_id, calls, duration_ms, micros"
_HOUR_COLUMNS = "organization_id, hour_at, calls, duration_ms, micros"
_ADD_COUNTS = """
    calls = kept.calls + excluded.calls,
    duration_ms = kept.duration_ms + excluded.duration_ms,
    micros = kept.micros + excluded.micros"""


def _into_mixes(cells: str, places: range) -> str:
    return f"""
        INSERT INTO usage_dailyusage AS kept ({_DAY_COLUMNS}) {cells}
        ON CONFLICT (organization_id, date, mix_id, billed_month) DO UPDATE SET {_ADD_COUNTS},
            llm_tokens = kept.llm_tokens + excluded.llm_tokens,
            line_calls = {_added_arrays("line_calls", places)},
            line_micros = {_added_arrays("line_micros", places)}"""


def _added_arrays(name: str, places: range) -> str:
    """Return the sum of two cells' arrays, place by place: both have a place for each line of their mix.

    Named one by one; to unnest them and put them together again took half of an upsert's time.
    """
    sums = ", ".join(f"kept.{name}[{n}] + excluded.{name}[{n}]" for n in places)
    return f"(ARRAY[{sums}]::bigint[])[:cardinality(excluded.{name})]"


def _into_agents(cells: str) -> str:
    return f"""
        INSERT INTO usage_dailyagentusage AS kept ({_AGENT_COLUMNS}) {cells}
        ON CONFLICT (organization_id, date, agent_id) DO UPDATE SET {_ADD_COUNTS}"""


def _into_hours(cells: str) -> str:
    return f"""
        INSERT INTO usage_hourlyusage AS kept ({_HOUR_COLUMNS}) {cells}
        ON CONFLICT (organization_id, hour_at) DO UPDATE SET {_ADD_COUNTS}"""


def _fold(ranges: str) -> str:
    """Return one statement that adds the calls of ranges, which `ranges` settles and returns, to all rollups."""
    places = _all_places()
    return f"""
        WITH settled AS ({ranges}),
        call AS MATERIALIZED ({_calls("settled")} WHERE c.started_at BETWEEN %(starts_at)s AND %(ends_at)s),
        mix ({_DAY_COLUMNS}) AS MATERIALIZED ({_cut_to_mix(_mix_days("call", places))}),
        mixes AS ({_into_mixes("TABLE mix", places)}),
        agents AS ({_into_agents(_agent_days("call"))}),
        hours AS ({_into_hours(_hours("call"))})
        SELECT (SELECT count(*) FROM settled), (SELECT max(revision) FROM call) > 1,
               organization_id, mix_id, line_micros FROM mix"""


class Folded(NamedTuple):
    """How many ranges were settled, whether a correction is among their calls, and what those cost."""

    ranges: int
    has_corrections: bool
    micros: list[MixMicros]


def fold(ranges: str, values: Mapping[str, Any], *, starts_at: datetime, ends_at: datetime) -> Folded:
    """Settle ranges by a statement that returns them, and add their calls to the rollups; one round trip for all.

    The first call of the ranges starts at `starts_at`, the last at `ends_at`: other months are not even planned for.
    In the caller's transaction, under the locks of their organizations. Where there are corrections, `correct` adds
    what those change besides money.
    """
    with connection.cursor() as cursor:
        cursor.execute(_fold(ranges), {**values, "starts_at": starts_at, "ends_at": ends_at})
        rows = cursor.fetchall()
    if not rows:
        return Folded(0, False, [])
    return Folded(rows[0][0], rows[0][1], [MixMicros._make(row[2:]) for row in rows])


_NAMED = """(
    SELECT r.* FROM unnest(%(organizations)s::bigint[], %(first_ids)s::bigint[]) AS named (o, i)
    JOIN usage_callrange r ON r.organization_id = o AND r.first_id = i AND r.first_sequence IS NOT NULL)"""


def correct(organization_ids: Sequence[int], first_ids: Sequence[int]) -> None:
    """Add what the revisions in ranges that were just settled change in counts, times and tokens."""
    values = {"organizations": list(organization_ids), "first_ids": list(first_ids)}
    with connection.cursor() as cursor:
        _correct(cursor, f"({_changes(_NAMED)})", values)


def _correct(cursor: CursorWrapper, changes: str, values: Mapping[str, Any]) -> None:
    places = _all_places()
    cursor.execute(_into_mixes(_cut_to_mix(_changed_mix_days(changes, places)), places), values)
    cursor.execute(_into_agents(_changed("date, agent_id", changes)), values)
    cursor.execute(_into_hours(_changed("hour_at", changes)), values)


def _tables() -> list[tuple[str, str, str]]:
    """Return (table, columns, query of all its rows of `organizations`)."""
    calls, changes = f"({_SETTLED_CALLS})", f"({_SETTLED_CHANGES})"
    places = _all_places()
    both = f"{_mix_days(calls, places)} UNION ALL {_changed_mix_days(changes, places)}"
    mix_days = _added_mix_days(both, places)
    of_agents, of_hours = "date, agent_id", "hour_at"
    return [
        ("usage_dailyusage", _DAY_COLUMNS, _cut_to_mix(mix_days)),
        ("usage_dailyagentusage", _AGENT_COLUMNS, _added(of_agents, _agent_days(calls), _changed(of_agents, changes))),
        ("usage_hourlyusage", _HOUR_COLUMNS, _added(of_hours, _hours(calls), _changed(of_hours, changes))),
    ]


# Millions of calls are sorted by day in memory, and as many cells kept in it while they grow.
_ROOM = "SET LOCAL work_mem = '128MB'; SET LOCAL hash_mem_multiplier = 8"


def _cells(places: range) -> str:
    """Return the query of all cells of settled calls: those of mixes (1), of agents (2) and of hours (3), in one pass.

    To find the range of each call takes as long as to add up a rollup, so three passes take twice as long.
    """
    line_calls, line_micros = _lines(places)
    return f"""
        SELECT GROUPING(c.mix_id, c.agent_id) AS sort,
               organization_id, billed_month, date, hour_at, c.mix_id, c.agent_id, {_COUNT} AS calls,
               {_MS} AS duration_ms, {_TOKENS} AS llm_tokens, {_MICROS} AS micros,
               {line_calls} AS line_calls, {line_micros} AS line_micros
        FROM ({_SETTLED_CALLS}) AS c GROUP BY GROUPING SETS (
            (organization_id, billed_month, date, c.mix_id), (organization_id, date, c.agent_id),
            (organization_id, hour_at))"""


def _rebuild(places: range) -> str:
    """Return one statement that adds all settled calls of organizations to rollups that are empty."""
    of_mixes = _cut_to_mix("SELECT * FROM cell WHERE sort = 1")
    return f"""
        WITH cell AS MATERIALIZED ({_cells(places)}),
        mixes AS (INSERT INTO usage_dailyusage ({_DAY_COLUMNS}) {of_mixes}),
        agents AS (
            INSERT INTO usage_dailyagentusage ({_AGENT_COLUMNS}) SELECT {_AGENT_COLUMNS} FROM cell WHERE sort = 2)
        INSERT INTO usage_hourlyusage ({_HOUR_COLUMNS}) SELECT {_HOUR_COLUMNS} FROM cell WHERE sort = 3"""


def rebuild(*organization_ids: int) -> None:
    """Throw the rollups of organizations away and add all their settled calls up anew, in the database.

    The caller holds the organizations' locks, so that no settlement adds to them meanwhile. Several are added up in one
    pass over their calls; `ledger.rollup_rebuilds` makes shares of many.
    """
    values = {"organizations": list(organization_ids)}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_ROOM)
        for table in ("usage_dailyusage", "usage_dailyagentusage", "usage_hourlyusage"):
            cursor.execute(f"DELETE FROM {table} WHERE {_OF_ORGANIZATIONS}", values)
        cursor.execute(_rebuild(_all_places()), values)
        _correct(cursor, f"({_SETTLED_CHANGES})", values)


_DIFFERING = """
    SELECT 'should be', * FROM (TABLE anew EXCEPT TABLE kept) AS missing
    UNION ALL
    SELECT 'is', * FROM (TABLE kept EXCEPT TABLE anew) AS superfluous
    ORDER BY 2, 3, 4"""


def verify(organization_id: int) -> list[str]:
    """Return every cell of the rollups that is not the sum of its settled calls; none when all is well."""
    found: list[str] = []
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_ROOM)
        for table, columns, query in _tables():
            kept = f"SELECT {columns} FROM {table} WHERE {_OF_ORGANIZATIONS}"
            cursor.execute(
                f"WITH anew AS ({query}), kept AS ({kept}) {_DIFFERING}", {"organizations": [organization_id]}
            )
            found += [" ".join(str(value) for value in (table, *row)) for row in cursor.fetchall()]
    return found
