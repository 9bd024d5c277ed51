"""Recorded calls as objects again, so that they can be recorded in a further revision with all that is free in them."""

from collections.abc import Sequence
from typing import Any

import msgspec
from django.db import connection

from usage.call_objects import EMPTY, CallObject
from usage.models import Call
from usage.rating import CallFacts

_DETAILS = """
    SELECT d.id, d.from_number, d.to_number, d.metadata::text, d.extra::text
    FROM unnest(%s::bigint[], %s::timestamptz[], %s::bigint[]) AS asked (o, s, i)
    JOIN usage_calldetail d ON d.organization_id = o AND d.started_at = s AND d.id = i"""


def objects(calls: Sequence[Call]) -> list[CallObject]:
    """Return calls as they were read when they were recorded, in their order; their digests are empty.

    The calls come with kind, agent and mix. What was erased stays so.
    """
    columns: list[list[Any]] = [
        [call.organization_id for call in calls],
        [call.started_at for call in calls],
        [call.id for call in calls],
    ]
    with connection.cursor() as cursor:
        cursor.execute(_DETAILS, columns)
        details = {row[0]: row[1:] for row in cursor.fetchall()}
    return [_object(call, *details.get(call.id, ("", "", "{}", "{}"))) for call in calls]


def facts(call: Call) -> CallFacts:
    """Return what the price of a recorded call depends on."""
    return CallFacts(call.duration_ms, tuple(call.mix.products), call.llm_tokens, call.llm_requests)


def _object(call: Call, from_number: str, to_number: str, metadata: str, extra: str) -> CallObject:
    return CallObject(
        organization=None,
        call_id=call.call_id,
        facts=facts(call),
        started_at=call.started_at,
        ended_at=call.ended_at,
        call_type=call.kind.call_type,
        status=call.kind.status,
        direction=call.kind.direction,
        disconnection_reason=call.kind.disconnection_reason,
        agent_id=call.agent.reference,
        agent_name=call.agent.name,
        from_number=from_number,
        to_number=to_number,
        metadata=_free(metadata),
        extra=_free(extra),
        digest=b"",
        source="",
        source_sequence=None,
    )


def _free(text: str) -> msgspec.Raw:
    return EMPTY if text == "{}" else msgspec.Raw(text.encode())
