"""What some days came to, broken down by component, model, voice, telephony or agent: sums of the rollups alone.

Every breakdown adds up to `rollups.total` of its days, to the micro: what names no value is a part of its own. By
component a call has a line in several parts, so only the money adds up; by anything else each call is in one part.
"""

from collections.abc import Collection, Iterable
from datetime import date
from enum import StrEnum
from typing import Any, NamedTuple

from django.db import connection

from usage.models import Component


class Dimension(StrEnum):
    """What calls are told apart by."""

    COMPONENT = "component"
    MODEL = "model"
    VOICE = "voice"
    TELEPHONY = "telephony"
    AGENT = "agent"


class Part(NamedTuple):
    """One value's part: its calls, their connected milliseconds, and micros; the value None is of calls without one.

    `own_micros` is what the model, voice or telephony itself cost; None where the value is no product.
    """

    value: str | None
    label: str
    calls: int
    duration_ms: int
    micros: int
    own_micros: int | None = None


# Rows of (date, value, calls, duration_ms, micros, own_micros), which are added up below. Lines of one component in a
# cell share its calls: the most that one of them has, or the least where corrections took calls off. What is free is
# charged to no call, and used by all that name it.
_OF_COMPONENTS = """
    SELECT d.date, r.component AS value,
           CASE WHEN max(used.calls) > 0 THEN max(used.calls) ELSE min(used.calls) END AS calls,
           max(d.duration_ms) AS duration_ms, sum(line.micros) AS micros, NULL::numeric AS own_micros
    FROM usage_dailyusage d
    JOIN usage_productmix m ON m.id = d.mix_id
    CROSS JOIN LATERAL unnest(m.rate_ids, d.line_calls, d.line_micros) AS line (rate_id, calls, micros)
    JOIN usage_pricerate r ON r.id = line.rate_id
    CROSS JOIN LATERAL (
        SELECT CASE WHEN r.rate_micros = 0 AND r.unit <> 'surcharge' THEN d.calls ELSE line.calls END AS calls
    ) AS used
    WHERE d.organization_id = %(organization)s AND {days}
    GROUP BY d.date, d.mix_id, d.billed_month, r.component"""
# A call that names two models is of both together.
_OF_PRODUCTS = """
    SELECT d.date, nullif(n.value, '') AS value, d.calls, d.duration_ms, d.micros,
           (SELECT sum(d.line_micros[place]) FROM unnest(n.places) AS place) AS own_micros
    FROM usage_dailyusage d
    JOIN (
        SELECT m.id, string_agg(r.product, ' + ' ORDER BY r.product) AS value,
               array_agg(used.place) FILTER (WHERE r.id IS NOT NULL) AS places
        FROM usage_productmix m
        LEFT JOIN LATERAL unnest(m.rate_ids) WITH ORDINALITY AS used (rate_id, place) ON true
        LEFT JOIN usage_pricerate r ON r.id = used.rate_id AND r.component = %(component)s
        WHERE m.id IN (SELECT d.mix_id FROM usage_dailyusage d
                       WHERE d.organization_id = %(organization)s AND {days})
        GROUP BY m.id
    ) AS n ON n.id = d.mix_id
    WHERE d.organization_id = %(organization)s AND {days}"""
_OF_AGENTS = """
    SELECT d.date, nullif(a.reference, '') AS value, d.calls, d.duration_ms, d.micros, NULL::numeric AS own_micros
    FROM usage_dailyagentusage d
    JOIN usage_agent a ON a.id = d.agent_id
    WHERE d.organization_id = %(organization)s AND {days}"""
_ROWS = {
    Dimension.COMPONENT: _OF_COMPONENTS,
    Dimension.MODEL: _OF_PRODUCTS,
    Dimension.VOICE: _OF_PRODUCTS,
    Dimension.TELEPHONY: _OF_PRODUCTS,
    Dimension.AGENT: _OF_AGENTS,
}
_COMPONENTS = {
    Dimension.MODEL: Component.LLM,
    Dimension.VOICE: Component.VOICE,
    Dimension.TELEPHONY: Component.TELEPHONY,
}
_IN_DAYS = "d.date BETWEEN %(starts_on)s AND %(ends_on)s"
_IN_EITHER = f"({_IN_DAYS} OR d.date BETWEEN %(before_from)s AND %(before_to)s)"
_TOTALS = """
    SELECT value, sum(calls)::bigint, sum(duration_ms)::bigint, sum(micros)::bigint, sum(own_micros)::bigint
    FROM ({rows}) AS cell GROUP BY 1 ORDER BY 4 DESC, 1"""
_DAYS = """
    SELECT date, CASE WHEN value = ANY(%(values)s) THEN value END, sum(micros)::bigint
    FROM ({rows}) AS cell GROUP BY 1, 2"""
# The cells are read once. A row without a date is a value's part, of the days and of those before; the others are sums
# by day of the dearest values.
_COMPARED = """
    WITH cell AS MATERIALIZED (
        SELECT *, date BETWEEN %(starts_on)s AND %(ends_on)s AS is_now,
               coalesce(date BETWEEN %(before_from)s AND %(before_to)s, false) AS is_before
        FROM ({rows}) AS cell
    ), part AS MATERIALIZED (
        SELECT value, sum(calls) FILTER (WHERE is_now)::bigint AS calls,
               sum(duration_ms) FILTER (WHERE is_now)::bigint AS duration_ms,
               sum(micros) FILTER (WHERE is_now)::bigint AS micros,
               sum(own_micros) FILTER (WHERE is_now)::bigint AS own_micros,
               sum(calls) FILTER (WHERE is_before)::bigint AS calls_before,
               sum(duration_ms) FILTER (WHERE is_before)::bigint AS duration_ms_before,
               sum(micros) FILTER (WHERE is_before)::bigint AS micros_before,
               sum(own_micros) FILTER (WHERE is_before)::bigint AS own_micros_before
        FROM cell GROUP BY value
    ), told AS (
        SELECT value FROM part WHERE value IS NOT NULL AND (calls <> 0 OR %(told)s::int IS NULL)
        ORDER BY micros DESC, value LIMIT %(told)s
    )
    SELECT NULL::date, part.* FROM part
    UNION ALL
    SELECT date, CASE WHEN value IN (SELECT value FROM told) THEN value END,
           NULL, NULL, sum(micros)::bigint, NULL, NULL, NULL, NULL, NULL
    FROM cell WHERE is_now GROUP BY 1, 2"""


class Compared(NamedTuple):
    """Every value's part of some days and of those before, the dearest first, and micros by (day, value) of the days.

    `told` are the dearest values, in their order; by day, all others together are under None.
    """

    parts: list[Part]
    before: list[Part]
    told: list[str]
    by_day: dict[tuple[date, str | None], int]


def compared(
    organization_id: int,
    dimension: Dimension,
    *,
    days: tuple[date, date],
    before: tuple[date, date] | None,
    told: int | None,
) -> Compared:
    """Return `totals` of the days and of those before, and `by_day` of the `told` dearest values, in one read.

    Without a number all values are told; otherwise none that no call has.
    Days are (first, last), both included. Values come without their names (`labelled`).
    """
    values: dict[str, Any] = {
        "organization": organization_id,
        "starts_on": days[0],
        "ends_on": days[1],
        "before_from": before[0] if before else None,
        "before_to": before[1] if before else None,
        "component": _COMPONENTS.get(dimension),
        "told": told,
    }
    query = _COMPARED.format(rows=_ROWS[dimension].format(days=_IN_EITHER if before else _IN_DAYS))
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        rows = cursor.fetchall()
    by_day = {(on, value): micros for on, value, _, _, micros, *_ in rows if on is not None}
    parts = _dearest_first(
        Part(row[1], row[1] or "", *row[2:6]) for row in rows if row[0] is None and row[2] is not None
    )
    parts_before = _dearest_first(Part(row[1], row[1] or "", *row[6:]) for row in rows if row[6] is not None)
    shown = {value for _, value in by_day}
    return Compared(parts, parts_before, [part.value for part in parts if part.value and part.value in shown], by_day)


def _dearest_first(parts: Iterable[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: (-part.micros, part.value is None, part.value or ""))


def totals(organization_id: int, dimension: Dimension, *, starts_on: date, ends_on: date) -> list[Part]:
    """Return every value's part of the days, both included, the dearest first; `labelled` names them."""
    rows = _query(_TOTALS, organization_id, dimension, starts_on, ends_on)
    return [Part(value, value or "", *sums) for value, *sums in rows]


def labelled(organization_id: int, dimension: Dimension, parts: Iterable[Part]) -> list[Part]:
    """Return the parts with the names of their values: of several names, the newest."""
    labels = _labels(organization_id, dimension)
    return [part._replace(label=_label(part.value, labels)) for part in parts]


def by_day(
    organization_id: int, dimension: Dimension, *, starts_on: date, ends_on: date, values: Collection[str]
) -> dict[tuple[date, str | None], int]:
    """Return micros by (day, value) of these values; all others together are under None."""
    rows = _query(_DAYS, organization_id, dimension, starts_on, ends_on, values=list(values))
    return {(on, value): micros for on, value, micros in rows}


def _query(
    outer: str, organization_id: int, dimension: Dimension, starts_on: date, ends_on: date, **more: Any
) -> list[tuple[Any, ...]]:
    values: dict[str, Any] = {
        "organization": organization_id,
        "starts_on": starts_on,
        "ends_on": ends_on,
        "component": _COMPONENTS.get(dimension),
        **more,
    }
    with connection.cursor() as cursor:
        cursor.execute(outer.format(rows=_ROWS[dimension].format(days=_IN_DAYS)), values)
        return list(cursor.fetchall())


_AGENTS = "SELECT reference, name FROM usage_agent WHERE organization_id = %s AND name <> '' ORDER BY id"
_PRODUCTS = "SELECT product, label FROM usage_pricerate WHERE component = %s AND label <> '' ORDER BY version_id, id"


def _labels(organization_id: int, dimension: Dimension) -> dict[str, str]:
    if dimension is Dimension.COMPONENT:
        return {value: str(label) for value, label in Component.choices}
    query, value = (
        (_AGENTS, organization_id) if dimension is Dimension.AGENT else (_PRODUCTS, str(_COMPONENTS[dimension]))
    )
    with connection.cursor() as cursor:
        cursor.execute(query, [value])
        return dict(cursor.fetchall())


def _label(value: str | None, labels: dict[str, str]) -> str:
    if value is None:
        return ""
    return labels.get(value) or " + ".join(labels.get(each, each) for each in value.split(" + "))
