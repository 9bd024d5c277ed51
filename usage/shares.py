"""An invoice's amount spread over the calls it bills: to the micro, by largest remainder, so any sum of them is exact.

For each component there is a target; each of its calls gets as much of it as it has of the component's micros, rounded
down, and those with the largest remainders one micro more until nothing is left, the earlier number first. So whatever
calls are grouped by, the groups add up to the targets.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from enum import StrEnum
from typing import Any, NamedTuple

from django.db import connection

from usage.models import Billable, Component


class Grouping(StrEnum):
    """What shares are added up by; `metadata` by the values of one key."""

    AGENT = "agent"
    MODEL = "model"
    DAY = "day"
    METADATA = "metadata"


class Share(NamedTuple):
    """One value's part: its calls, what they cost before anything was taken off or added, and what is due for them."""

    value: str
    calls: int
    usage_micros: int
    due_micros: int


def spread(target: int, weights: Sequence[int]) -> list[int]:
    """Return `target` in whole parts, as the weights are to each other, by largest remainder; the first wins a tie.

    Pure. The parts add up to the target exactly, and none is further than one from its exact share. A target below
    zero is spread as its opposite. Raises ValueError for a weight below zero, or where no weight has anything to bear.
    """
    whole = sum(weights)
    if any(weight < 0 for weight in weights) or (target and not whole):
        raise ValueError("There is nothing that could bear it.")
    if not target:
        return [0] * len(weights)
    sign, size = (1, target) if target > 0 else (-1, -target)
    parts = [size * weight // whole for weight in weights]
    left = size - sum(parts)
    by_remainder = sorted(range(len(weights)), key=lambda place: (-(size * weights[place] % whole), place))
    for place in by_remainder[:left]:
        parts[place] += 1
    return [sign * part for part in parts]


_LINES = """
    lines AS (
        SELECT r.first_sequence + c.id - r.first_id AS sequence, c.id, c.call_id, c.started_at, c.agent_id, c.mix_id,
               r.time_zone, rate.component, sum(line.micros) AS weight
        FROM usage_callrange r
        JOIN usage_call c ON c.organization_id = r.organization_id
         AND c.started_at BETWEEN r.starts_at AND r.ends_at AND c.id BETWEEN r.first_id AND r.last_id
        JOIN usage_productmix m ON m.id = c.mix_id
        CROSS JOIN LATERAL unnest(m.rate_ids, c.line_micros) AS line (rate_id, micros)
        JOIN usage_pricerate rate ON rate.id = line.rate_id
        WHERE r.organization_id = %(organization)s AND r.billed_month = %(month)s AND line.micros > 0
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    )"""

# Outcomes have one line each, of a component of their own.
_OUTCOMES = """
    lines AS (
        SELECT h.id, h.sequence, h.outcome AS component, h.amount_micros AS weight
        FROM usage_outcomecharge h
        WHERE h.organization_id = %(organization)s AND h.billed_month = %(month)s AND h.sequence IS NOT NULL
          AND h.kind = 'charge' AND h.amount_micros > 0
    )"""

_SPREAD = """
    exact AS (
        SELECT lines.*, abs(asked.target)::numeric * weight AS product, sign(asked.target) AS sign,
               abs(asked.target) AS target, sum(weight) OVER (PARTITION BY component) AS whole
        FROM lines JOIN unnest(%(components)s::text[], %(targets)s::bigint[]) AS asked (component, target)
        USING (component)
    ),
    floored AS (SELECT exact.*, div(product, whole) AS part, mod(product, whole) AS rest FROM exact),
    ranked AS (
        SELECT floored.*, row_number() OVER (PARTITION BY component ORDER BY rest DESC, sequence) AS place,
               target - sum(part) OVER (PARTITION BY component) AS left_over
        FROM floored
    ),
    spread AS (
        SELECT ranked.*, sign * (part + CASE WHEN place <= left_over THEN 1 ELSE 0 END) AS due FROM ranked
    )"""

_SHARES = f"""{_LINES}, {_SPREAD},
    shares AS (
        SELECT sequence, id, call_id, started_at, agent_id, mix_id, time_zone, sum(weight) AS usage_micros,
               sum(due) AS due_micros
        FROM spread GROUP BY 1, 2, 3, 4, 5, 6, 7
    )"""

_VALUES = {
    Grouping.AGENT: "(SELECT coalesce(nullif(a.name, ''), a.reference) FROM usage_agent a WHERE a.id = s.agent_id)",
    Grouping.MODEL: """(
        SELECT string_agg(coalesce(nullif(p.label, ''), p.product), ' + ' ORDER BY p.product)
        FROM usage_productmix m CROSS JOIN LATERAL unnest(m.rate_ids) AS used JOIN usage_pricerate p ON p.id = used
        WHERE m.id = s.mix_id AND p.component = 'llm')""",
    Grouping.DAY: "to_char(s.started_at AT TIME ZONE s.time_zone, 'YYYY-MM-DD')",
    Grouping.METADATA: """(
        SELECT left(d.metadata ->> %(key)s, 100) FROM usage_calldetail d
        WHERE d.organization_id = %(organization)s AND d.started_at = s.started_at AND d.id = s.id)""",
}

_GROUPS = """
    WITH {lines}
    SELECT coalesce({value}, '') AS value, count(DISTINCT s.call_id), sum(s.usage_micros)::bigint,
           sum(s.due_micros)::bigint
    FROM shares s GROUP BY 1 ORDER BY 4 DESC, 1"""

_CALLS = """
    WITH {lines}
    SELECT s.sequence, s.call_id, to_char(s.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
           s.usage_micros::bigint, s.due_micros::bigint
    FROM shares s ORDER BY s.sequence"""

_OF_CALLS = """
    WITH {lines}
    SELECT s.call_id, sum(s.due_micros)::bigint FROM shares s WHERE s.call_id = ANY(%(call_ids)s) GROUP BY 1"""

_OF_OUTCOMES = f"""
    WITH {_OUTCOMES}, {_SPREAD}
    SELECT id, due::bigint FROM spread WHERE id = ANY(%(ids)s)"""
_CHUNK = 5_000


def by(
    organization_id: int, month: date, targets: Mapping[str, int], grouping: Grouping, *, key: str = ""
) -> list[Share]:
    """Return what is due by the values of a grouping, the most first; the value of calls without one is empty.

    `targets` are micros by component. What a component without a call should bear is in no share.
    """
    query = _GROUPS.format(lines=_SHARES, value=_VALUES[grouping])
    with connection.cursor() as cursor:
        cursor.execute(query, {**_parameters(organization_id, month, targets), "key": key})
        return [Share(*row) for row in cursor.fetchall()]


def by_call(organization_id: int, month: date, targets: Mapping[str, int]) -> Iterator[tuple[int, str, str, int, int]]:
    """Yield (number, call id, start, micros of usage, micros due) of every call that bears something, by number."""
    with connection.chunked_cursor() as cursor:
        cursor.execute(_CALLS.format(lines=_SHARES), _parameters(organization_id, month, targets))
        while rows := cursor.fetchmany(_CHUNK):
            yield from rows


def of_calls(organization_id: int, month: date, targets: Mapping[str, int], call_ids: Sequence[str]) -> dict[str, int]:
    """Return what is due in micros for each of these calls, all its revisions together; none that bears nothing."""
    with connection.cursor() as cursor:
        values = _parameters(organization_id, month, targets)
        cursor.execute(_OF_CALLS.format(lines=_SHARES), {**values, "call_ids": list(call_ids)})
        return dict(cursor.fetchall())


def of_outcomes(
    organization_id: int, month: date, targets: Mapping[str, int], charge_ids: Sequence[int]
) -> dict[int, int]:
    """Return the same for charges of outcomes, by their ids."""
    with connection.cursor() as cursor:
        values = _parameters(organization_id, month, targets, of=Billable.values)
        cursor.execute(_OF_OUTCOMES, {**values, "ids": list(charge_ids)})
        return dict(cursor.fetchall())


def components_borne(organization_id: int, month: date) -> set[str]:
    """Return the components of which some call of the month has micros, so that it can bear a target."""
    with connection.cursor() as cursor:
        cursor.execute(_BORNE, {"organization": organization_id, "month": month})
        return {component for (component,) in cursor.fetchall()}


_BORNE = """
    SELECT DISTINCT rate.component
    FROM usage_dailyusage d
    JOIN usage_productmix m ON m.id = d.mix_id
    CROSS JOIN LATERAL unnest(m.rate_ids, d.line_micros) AS line (rate_id, micros)
    JOIN usage_pricerate rate ON rate.id = line.rate_id
    WHERE d.organization_id = %(organization)s AND d.billed_month = %(month)s AND line.micros > 0"""


def _parameters(
    organization_id: int, month: date, targets: Mapping[str, int], of: Collection[str] = tuple(Component.values)
) -> dict[str, Any]:
    asked = {component: micros for component, micros in targets.items() if component in of}
    return {
        "organization": organization_id,
        "month": month,
        "components": list(asked),
        "targets": list(asked.values()),
    }
