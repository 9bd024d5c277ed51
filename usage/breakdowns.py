"""What some days came to, broken down by component, model, voice, telephony or agent: sums of the rollups alone.

Every breakdown adds up to `rollups.total` of its days, to the micro: what names no value is a part of its own. By
component a call has a line in several parts, so only the money adds up; by anything else each call is in one part.
"""

from collections.abc import Collection, Iterable
from datetime import date
from enum import StrEnum
from typing import Any, NamedTuple

from django.db import connection

from usage.models import Agent, Component, PriceRate


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
    WHERE d.organization_id = %(organization)s AND d.date BETWEEN %(starts_on)s AND %(ends_on)s
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
        WHERE m.id IN (SELECT mix_id FROM usage_dailyusage
                       WHERE organization_id = %(organization)s AND date BETWEEN %(starts_on)s AND %(ends_on)s)
        GROUP BY m.id
    ) AS n ON n.id = d.mix_id
    WHERE d.organization_id = %(organization)s AND d.date BETWEEN %(starts_on)s AND %(ends_on)s"""
_OF_AGENTS = """
    SELECT d.date, nullif(a.reference, '') AS value, d.calls, d.duration_ms, d.micros, NULL::numeric AS own_micros
    FROM usage_dailyagentusage d
    JOIN usage_agent a ON a.id = d.agent_id
    WHERE d.organization_id = %(organization)s AND d.date BETWEEN %(starts_on)s AND %(ends_on)s"""
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
_TOTALS = """
    SELECT value, sum(calls)::bigint, sum(duration_ms)::bigint, sum(micros)::bigint, sum(own_micros)::bigint
    FROM ({rows}) AS cell GROUP BY 1 ORDER BY 4 DESC, 1"""
_DAYS = """
    SELECT date, CASE WHEN value = ANY(%(values)s) THEN value END, sum(micros)::bigint
    FROM ({rows}) AS cell GROUP BY 1, 2"""


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
    values = {
        "organization": organization_id,
        "starts_on": starts_on,
        "ends_on": ends_on,
        "component": _COMPONENTS.get(dimension),
        **more,
    }
    with connection.cursor() as cursor:
        cursor.execute(outer.format(rows=_ROWS[dimension]), values)
        return list(cursor.fetchall())


def _labels(organization_id: int, dimension: Dimension) -> dict[str, str]:
    if dimension is Dimension.COMPONENT:
        return {value: str(label) for value, label in Component.choices}
    if dimension is Dimension.AGENT:
        named = Agent.objects.filter(organization_id=organization_id).exclude(name="").order_by("id")
        return dict(named.values_list("reference", "name"))
    component = _COMPONENTS[dimension]
    labelled = PriceRate.objects.filter(component=component).exclude(label="").order_by("version_id", "id")
    return dict(labelled.values_list("product", "label"))


def _label(value: str | None, labels: dict[str, str]) -> str:
    if value is None:
        return ""
    return labels.get(value) or " + ".join(labels.get(each, each) for each in value.split(" + "))
