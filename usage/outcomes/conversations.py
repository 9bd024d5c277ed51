"""Conversations and their events in PostgreSQL, a batch at a time, each in one statement."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from usage.outcomes.event_items import EventItem
from usage.outcomes.judging import Fact, Judgement, Rules


class Reference(NamedTuple):
    """A conversation as the vendor names it."""

    organization_id: int
    reference: str


class Standing(NamedTuple):
    """A conversation and its charge that stands, if there is one: which outcome, under which rules."""

    id: int
    organization_id: int
    charge_id: int | None
    outcome: str | None
    rules_id: int | None


class Judged(NamedTuple):
    """What a conversation's events come to."""

    standing: Standing
    began_at: datetime
    last_event_at: datetime
    rules: Rules | None
    judgement: Judgement
    facts: list[Fact]


def lock(told: Mapping[Reference, Sequence[EventItem]], *, now: datetime) -> dict[Reference, Standing]:
    """Return the conversations by their references, made where they are new, locked until the transaction ends.

    In order of organization and reference, so that two batches wait for each other but never in a circle.
    """
    ordered = sorted(told)
    with connection.cursor() as cursor:
        cursor.execute(
            _MAKE,
            {
                "organizations": [each.organization_id for each in ordered],
                "references": [each.reference for each in ordered],
                "agents": [_first(item.agent for item in told[each]) for each in ordered],
                "channels": [_first(item.channel for item in told[each]) for each in ordered],
                "now": now,
            },
        )
        cursor.execute(_LOCK, [[each.organization_id for each in ordered], [each.reference for each in ordered]])
        rows = cursor.fetchall()
    return {
        Reference(organization_id, reference): Standing(pk, organization_id, *charge)
        for pk, organization_id, reference, *charge in rows
    }


def unruled(limit: int) -> list[Standing]:
    """Return conversations that no rules judged and whose organization has some by now, locked."""
    with connection.cursor() as cursor:
        cursor.execute(_UNRULED, [limit])
        return [Standing(pk, organization_id, None, None, None) for pk, organization_id in cursor.fetchall()]


def insert(items: Sequence[tuple[Standing, EventItem]], *, now: datetime) -> set[tuple[int, UUID]]:
    """Store events whose ids are not known yet, with what else they say; return (organization, key) of those."""
    with connection.cursor() as cursor:
        cursor.execute(
            _INSERT,
            {
                "organizations": [standing.organization_id for standing, _ in items],
                "keys": [item.fact.key for _, item in items],
                "conversations": [standing.id for standing, _ in items],
                "occurred": [item.fact.occurred_at for _, item in items],
                "kinds": [int(item.fact.kind) for _, item in items],
                "values": [item.fact.value for _, item in items],
                "digests": [item.digest for _, item in items],
                "ids": [item.event_id for _, item in items],
                "now": now,
            },
        )
        fresh = {(organization_id, key) for organization_id, key in cursor.fetchall()}
        more = [
            (standing.organization_id, item.fact.key, item.extra.decode())
            for standing, item in items
            if item.extra and (standing.organization_id, item.fact.key) in fresh
        ]
        if more:
            organizations, keys, extras = zip(*more, strict=True)
            cursor.execute(_INSERT_DETAILS, [list(organizations), list(keys), list(extras)])
    return fresh


def digests(keys: Iterable[tuple[int, UUID]]) -> dict[tuple[int, UUID], UUID]:
    """Return the digests that are known of events."""
    wanted = list(keys)
    with connection.cursor() as cursor:
        cursor.execute(_DIGESTS, [[each for each, _ in wanted], [key for _, key in wanted]])
        return {(organization_id, key): digest for organization_id, key, digest in cursor.fetchall()}


def facts(conversations: Collection[Standing]) -> dict[int, list[Fact]]:
    """Return all events of conversations, by conversation."""
    found: dict[int, list[Fact]] = {each.id: [] for each in conversations}
    with connection.cursor() as cursor:
        cursor.execute(_FACTS, [[each.organization_id for each in conversations], [each.id for each in conversations]])
        for conversation_id, *fact in cursor.fetchall():
            found[conversation_id].append(Fact(*fact))
    return found


def write(judged: Sequence[Judged]) -> None:
    """Write what conversations come to. An outcome that the standing charge is for already is not due again."""
    with connection.cursor() as cursor:
        cursor.execute(
            _WRITE,
            {
                "ids": [each.standing.id for each in judged],
                "began": [each.began_at for each in judged],
                "last": [each.last_event_at for each in judged],
                "rules": [each.rules and each.rules.version_id for each in judged],
                "outcomes": [each.judgement.outcome for each in judged],
                "reasons": [each.judgement.reason for each in judged],
                "decided": [each.judgement.decided_at for each in judged],
                "decided_by": [each.judgement.decided_by for each in judged],
                "reversed_by": [each.judgement.reversed_by for each in judged],
            },
        )


def forget(conversation_ids: Collection[int]) -> None:
    """Delete those of the conversations, made just now, that none of the events was new for."""
    with connection.cursor() as cursor:
        cursor.execute(_FORGET, [list(conversation_ids)])


def _first(texts: Iterable[str]) -> str:
    return next((text for text in texts if text), "")


_MAKE = """
    INSERT INTO usage_conversation (organization_id, reference, agent, channel, began_at, last_event_at, outcome,
                                    reason, revision)
    SELECT organization_id, reference, agent, channel, %(now)s, %(now)s, '', '', 0
    FROM unnest(%(organizations)s::bigint[], %(references)s::text[], %(agents)s::text[], %(channels)s::text[])
         AS told (organization_id, reference, agent, channel)
    ON CONFLICT (organization_id, reference) DO UPDATE SET
        agent = CASE WHEN usage_conversation.agent = '' THEN excluded.agent ELSE usage_conversation.agent END,
        channel = CASE WHEN usage_conversation.channel = '' THEN excluded.channel ELSE usage_conversation.channel END"""

_LOCK = """
    SELECT c.id, c.organization_id, c.reference, c.charge_id, h.outcome, h.rules_id
    FROM unnest(%s::bigint[], %s::text[]) AS told (organization_id, reference)
    JOIN usage_conversation c USING (organization_id, reference)
    LEFT JOIN usage_outcomecharge h ON h.id = c.charge_id"""

_UNRULED = """
    SELECT c.id, c.organization_id FROM usage_conversation c JOIN accounts_organization o ON o.id = c.organization_id
    WHERE c.rules_id IS NULL AND EXISTS (
        SELECT FROM usage_outcomeruleversion v JOIN usage_pricebook b ON b.id = v.book_id
        WHERE b.organization_id = o.id OR (b.is_default AND b.currency = o.currency))
    ORDER BY c.id LIMIT %s FOR NO KEY UPDATE OF c SKIP LOCKED"""

_INSERT = """
    INSERT INTO usage_conversationevent (organization_id, key, conversation_id, occurred_at, recorded_at, kind, value,
                                         digest, event_id)
    SELECT organization_id, key, conversation_id, occurred_at, %(now)s, kind, value, digest, event_id
    FROM unnest(%(organizations)s::bigint[], %(keys)s::uuid[], %(conversations)s::bigint[],
                %(occurred)s::timestamptz[], %(kinds)s::smallint[], %(values)s::smallint[], %(digests)s::uuid[],
                %(ids)s::text[])
         AS told (organization_id, key, conversation_id, occurred_at, kind, value, digest, event_id)
    ORDER BY organization_id, key
    ON CONFLICT (organization_id, key) DO NOTHING
    RETURNING organization_id, key"""

_INSERT_DETAILS = """
    INSERT INTO usage_conversationeventdetail (organization_id, key, extra)
    SELECT * FROM unnest(%s::bigint[], %s::uuid[], %s::jsonb[])"""

_DIGESTS = """
    SELECT e.organization_id, e.key, e.digest
    FROM unnest(%s::bigint[], %s::uuid[]) AS told (organization_id, key)
    JOIN usage_conversationevent e USING (organization_id, key)"""

_FACTS = """
    SELECT e.conversation_id, e.occurred_at, e.kind, e.value, e.key
    FROM unnest(%s::bigint[], %s::bigint[]) AS told (organization_id, conversation_id)
    JOIN usage_conversationevent e USING (organization_id, conversation_id)"""

_WRITE = """
    UPDATE usage_conversation c SET
        began_at = j.began_at, last_event_at = j.last_event_at, rules_id = j.rules_id, outcome = j.outcome,
        reason = j.reason, decided_at = j.decided_at, decided_by = j.decided_by, reversed_by = j.reversed_by,
        due_at = CASE WHEN c.charge_id IS NULL THEN j.decided_at END
    FROM unnest(%(ids)s::bigint[], %(began)s::timestamptz[], %(last)s::timestamptz[], %(rules)s::bigint[],
                %(outcomes)s::text[], %(reasons)s::text[], %(decided)s::timestamptz[], %(decided_by)s::uuid[],
                %(reversed_by)s::uuid[])
         AS j (id, began_at, last_event_at, rules_id, outcome, reason, decided_at, decided_by, reversed_by)
    WHERE c.id = j.id"""

_FORGET = """
    DELETE FROM usage_conversation c WHERE id = ANY(%s::bigint[])
    AND NOT EXISTS (SELECT FROM usage_conversationevent e
                    WHERE (e.organization_id, e.conversation_id) = (c.organization_id, c.id))"""
