"""Tables that hold millions of calls already, made by the database itself.

The calls are those of `load`: a thousand of them are recorded as usual, and each call here has the facts and the price
of one of these, with an organization of Zipf's sizes, a start, an id and a key of its own. They lie in the tables as if
they had been posted in batches of a thousand as they ended. Nothing of the ledger is made.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from django.db import connection, transaction

from accounts.models import Organization
from billing_portal.ledger import rollup_rebuilds
from billing_portal.local.bench import load
from usage import ingestion, partitions, periods

BATCH = 1_000
_PATTERN = 1_000
_AGENTS = 5
_AT_ONCE = 500_000
_SLOTS = 100_000
_REBUILT_AT_ONCE = 2


def hold(organizations: Sequence[Organization], calls: int, *, month: datetime = load.MONTH, detailed: int = 0) -> int:
    """Let the tables hold `calls` settled calls of these organizations in `month`; return how many were missing.

    Organizations are given the largest first. Of a hundred calls `detailed` have numbers and metadata. Rollups are not
    made: `roll_up` adds all of them up.
    """
    missing = calls - _held(organizations, month)
    if missing <= 0:
        return 0
    partitions.ensure([month.date()])
    _record_pattern(month)
    with connection.cursor() as cursor:
        _lay_out(cursor, organizations)
        step = (_ends_at(month) - month) / missing
        for first in range(0, missing, _AT_ONCE):
            with transaction.atomic():
                _make(cursor, month, first, min(first + _AT_ONCE, missing) - 1, step=step.total_seconds())
                cursor.execute(_INSERT_DETAILS, [detailed])
        cursor.execute("DROP TABLE bench_slot, bench_last, bench_pattern")
        cursor.execute("VACUUM ANALYZE usage_call, usage_callkey, usage_callrange, usage_calldetail")
    return missing


def roll_up(organizations: Sequence[Organization]) -> None:
    """Add up the rollups of all organizations, as `manage.py rebuild_usage` does."""
    shares = rollup_rebuilds.shares([organization.pk for organization in organizations])
    for _ in rollup_rebuilds.rebuild_all(shares, at_once=_REBUILT_AT_ONCE):
        pass
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE usage_dailyusage, usage_dailyagentusage, usage_hourlyusage")


def _held(organizations: Sequence[Organization], month: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(last_id - first_id + 1), 0) FROM usage_callrange"
            " WHERE organization_id = ANY(%s) AND starts_at >= %s AND starts_at < %s",
            [[organization.pk for organization in organizations], month, _ends_at(month)],
        )
        return int(cursor.fetchone()[0])


def _ends_at(month: datetime) -> datetime:
    return datetime.combine(periods.next_month(month.date()), datetime.min.time(), UTC)


def _record_pattern(month: datetime) -> None:
    """Record the calls that all others are like, of an organization that nobody looks at."""
    [pattern] = Organization.objects.filter(reference="pattern") or [
        Organization.objects.create(
            reference="pattern", name="Pattern", currency="USD", time_zone="UTC", created_at=load.MONTH
        )
    ]
    items = [*load.calls(_PATTERN, [pattern.reference], personal=True)]
    ingestion.record(items, now=max(_ends_at(load.MONTH), _ends_at(month)))
    with connection.cursor() as cursor:
        cursor.execute(_KEEP_PATTERN, [pattern.pk])


_KEEP_PATTERN = """
    CREATE TEMPORARY TABLE bench_pattern AS
    SELECT (row_number() OVER (ORDER BY c.id) - 1)::int AS place, c.duration_ms, c.amount_micros, c.llm_tokens,
           c.llm_requests, c.mix_id, c.kind_id, c.line_micros, c.ended_at - c.started_at AS lasted,
           d.from_number, d.to_number, d.metadata, d.extra
    FROM usage_call c JOIN usage_calldetail d USING (organization_id, started_at, id) WHERE organization_id = %s"""

_MAKE_AGENTS = """
    INSERT INTO usage_agent (organization_id, reference, name)
    SELECT o, 'agent_' || n, 'Receptionist' FROM unnest(%s::bigint[]) AS o, generate_series(0, %s) AS n
    ON CONFLICT DO NOTHING"""

# Whose a call is follows from its slot, of which an organization has as many as is its share.
_MAKE_SLOTS = """
    CREATE TEMPORARY TABLE bench_slot AS
    SELECT (slot - 1)::int AS slot, organization_id, agents
    FROM unnest(%s::bigint[]) WITH ORDINALITY AS shared (organization_id, slot)
    JOIN (SELECT organization_id, array_agg(id ORDER BY id) AS agents FROM usage_agent GROUP BY 1) AS agent
      USING (organization_id)"""

_FIND_LAST = """
    CREATE TEMPORARY TABLE bench_last AS
    SELECT organization_id, coalesce(max(first_sequence + last_id - first_id), 0) AS sequence
    FROM unnest(%s::bigint[]) AS organization_id LEFT JOIN usage_callrange USING (organization_id) GROUP BY 1"""

# Ids are given as by `storage`: 10,000 a batch, by organization and start within it.
_MAKE = """
    CREATE TEMPORARY TABLE bench_made ON COMMIT DROP AS
    WITH arrived AS (
        SELECT n, s.organization_id,
               %(month)s::timestamptz + trunc(n * %(step)s * 1000) * interval '1 ms' AS started_at,
               s.agents[1 + (hashint8extended(n, 2) & 1023) %% cardinality(s.agents)] AS agent_id,
               ((hashint8extended(n, 3) & 1048575) %% (SELECT count(*) FROM bench_pattern))::int AS place
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
        JOIN bench_slot s ON s.slot = ((hashint8extended(n, 1) & 4294967295) %% %(slots)s)::int
    )
    SELECT *, %(first_id)s::bigint + n / %(batch)s * 10000
              + row_number() OVER (PARTITION BY n / %(batch)s ORDER BY organization_id, n) - 1 AS id,
           'call_' || left(md5(%(first_id)s::text || ' ' || n), 27) AS call_id
    FROM arrived"""

_INSERT_CALLS = """
    INSERT INTO usage_call (organization_id, id, started_at, ended_at, duration_ms, amount_micros, llm_tokens,
                            llm_requests, mix_id, kind_id, agent_id, revision, call_id, line_micros)
    SELECT m.organization_id, m.id, m.started_at, m.started_at + p.lasted, p.duration_ms, p.amount_micros, p.llm_tokens,
           p.llm_requests, p.mix_id, p.kind_id, m.agent_id, 1, m.call_id, p.line_micros
    FROM bench_made m JOIN bench_pattern p USING (place) ORDER BY m.id"""

_INSERT_DETAILS = """
    INSERT INTO usage_calldetail (organization_id, id, started_at, from_number, to_number, metadata, extra)
    SELECT m.organization_id, m.id, m.started_at, p.from_number, p.to_number, p.metadata, p.extra
    FROM bench_made m JOIN bench_pattern p USING (place) WHERE m.n %% 100 < %s ORDER BY m.id"""

_INSERT_KEYS = """
    INSERT INTO usage_callkey (organization_id, key, digest, started_at)
    SELECT organization_id, encode(substring(sha256(call_id::bytea) FOR 16), 'hex')::uuid, md5(call_id)::uuid,
           started_at
    FROM bench_made ORDER BY n / %s, 1, 2"""

_INSERT_RANGES = """
    WITH marked AS (
        SELECT m.organization_id, m.id, m.started_at, p.amount_micros, m.n / %(batch)s AS batch,
               m.started_at - lag(m.started_at) OVER of_one > interval '15 minutes' AS paused
        FROM bench_made m JOIN bench_pattern p USING (place)
        WINDOW of_one AS (PARTITION BY m.organization_id, m.n / %(batch)s ORDER BY m.id)
    ), numbered AS (
        SELECT *, count(*) FILTER (WHERE paused) OVER (PARTITION BY organization_id, batch ORDER BY id) AS run
        FROM marked
    ), ranges AS (
        SELECT organization_id, min(id) AS first_id, max(id) AS last_id, min(started_at) AS starts_at,
               max(started_at) AS ends_at, sum(amount_micros) AS micros
        FROM numbered GROUP BY organization_id, batch, run
    ), settled AS (
        INSERT INTO usage_callrange (organization_id, first_id, last_id, starts_at, ends_at, micros, received_at,
                                     first_sequence, billed_month, time_zone)
        SELECT organization_id, first_id, last_id, starts_at, ends_at, micros, ends_at,
               l.sequence + sum(last_id - first_id + 1) OVER (PARTITION BY organization_id ORDER BY first_id)
               - (last_id - first_id), %(month)s::date, 'UTC'
        FROM ranges JOIN bench_last l USING (organization_id)
        ORDER BY first_id
        RETURNING organization_id, last_id - first_id + 1 AS calls
    )
    UPDATE bench_last SET sequence = sequence + added.calls
    FROM (SELECT organization_id, sum(calls) AS calls FROM settled GROUP BY 1) AS added
    WHERE bench_last.organization_id = added.organization_id"""


def _lay_out(cursor: Any, organizations: Sequence[Organization]) -> None:
    ids = [organization.pk for organization in organizations]
    cursor.execute(_MAKE_AGENTS, [ids, _AGENTS - 1])
    shares = list(accumulate(1 / (rank + 1) for rank in range(len(ids))))
    ends = [round(_SLOTS * share / shares[-1]) for share in shares]
    begins = [0, *ends[:-1]]
    slots = [pk for pk, begin, end in zip(ids, begins, ends, strict=True) for _ in range(end - begin)]
    cursor.execute(_MAKE_SLOTS, [slots])
    cursor.execute(_FIND_LAST, [ids])
    cursor.execute("ANALYZE bench_slot, bench_pattern")


def _make(cursor: Any, month: datetime, first: int, last: int, *, step: float) -> None:
    """Store the calls from place `first` to `last` in the order of arrival, with their keys and ranges."""
    batches = (last - first) // BATCH + 1
    cursor.execute("SELECT nextval('usage_call_id')")
    first_id = cursor.fetchone()[0]
    cursor.execute("SELECT setval('usage_call_id', %s)", [first_id + 10_000 * (batches - 1)])
    values = {"month": month, "first": first, "last": last, "step": step, "slots": _SLOTS, "batch": BATCH}
    cursor.execute(_MAKE, values | {"first_id": first_id - first // BATCH * 10_000})
    cursor.execute("ANALYZE bench_made")
    cursor.execute(_INSERT_CALLS)
    cursor.execute(_INSERT_KEYS, [BATCH])
    cursor.execute(_INSERT_RANGES, {"month": month, "batch": BATCH})
