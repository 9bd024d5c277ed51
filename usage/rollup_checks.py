"""All organizations' calls against their ranges and rollups at once: one pass over each table, for who operates.

`rollup_upkeep.verify` names the cells of one organization that are wrong; this names the organizations, in the time
that it takes to read the calls once.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

from django.db import connection

from usage import partitions


@dataclass(frozen=True, slots=True)
class Differing:
    """An organization whose sums do not agree: micros of its calls, of its ranges, and of its rollups.

    Calls are compared with all ranges of the months that are not archived, rollups with all settled ranges.
    """

    organization_id: int
    micros_of_calls: int
    micros_of_ranges: int
    micros_settled: int
    micros_of_rollups: int
    calls_settled: int
    calls_of_rollups: int


# A range that began in an archived month and went on past its end is left out on both sides.
_DIFFERING = """
    WITH call AS (
        SELECT organization_id, coalesce(sum(amount_micros), 0)::bigint AS micros
        FROM usage_call WHERE started_at >= %(oldest)s GROUP BY 1
    ), cut AS (
        SELECT r.organization_id, sum(c.amount_micros)::bigint AS micros
        FROM usage_callrange r
        JOIN usage_call c ON c.organization_id = r.organization_id
         AND c.started_at BETWEEN %(oldest)s AND r.ends_at AND c.id BETWEEN r.first_id AND r.last_id
        WHERE r.starts_at < %(oldest)s AND r.ends_at >= %(oldest)s GROUP BY 1
    ), range AS (
        SELECT organization_id,
               coalesce(sum(micros) FILTER (WHERE starts_at >= %(oldest)s), 0)::bigint AS micros,
               coalesce(sum(micros) FILTER (WHERE first_sequence > 0), 0)::bigint AS settled,
               coalesce(sum(last_id - first_id + 1) FILTER (WHERE first_sequence > 0), 0)::bigint AS settled_calls
        FROM usage_callrange GROUP BY 1
    ), rollup AS (
        SELECT organization_id, sum(micros)::bigint AS micros, sum(calls)::bigint AS calls
        FROM usage_dailyusage GROUP BY 1
    ), sums AS (
        SELECT organization_id, coalesce(call.micros, 0) - coalesce(cut.micros, 0) AS of_calls,
               coalesce(range.micros, 0) AS of_ranges, coalesce(range.settled, 0) AS settled,
               coalesce(rollup.micros, 0) AS of_rollups, coalesce(range.settled_calls, 0) AS settled_calls,
               coalesce(rollup.calls, 0) AS calls_of_rollups
        FROM call FULL JOIN range USING (organization_id) FULL JOIN rollup USING (organization_id)
        LEFT JOIN cut USING (organization_id)
    )
    SELECT * FROM sums WHERE of_calls <> of_ranges OR settled <> of_rollups ORDER BY organization_id"""


def differing() -> list[Differing]:
    """Return the organizations whose calls, ranges and rollups do not agree to the micro; none when all is well."""
    months = partitions.months()
    oldest = datetime.combine(months[0], time.min, UTC) if months else datetime.max.replace(tzinfo=UTC)
    values: dict[str, Any] = {"oldest": oldest}
    with connection.cursor() as cursor:
        cursor.execute(_DIFFERING, values)
        return [Differing(*row) for row in cursor.fetchall()]
