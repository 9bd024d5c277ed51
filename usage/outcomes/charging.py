"""Charges of final outcomes, and their reversals.

What is due is a column of the conversation, so the sweep is one statement for thousands of them, goes on wherever it
was killed, and two sweeps at once take different conversations.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from django.db import connection, transaction

from usage import signals
from usage.models.outcomes import Conversation
from usage.outcomes.conversations import Judged

BATCH = 10_000


def charge(conversation_ids: Collection[int], *, now: datetime) -> set[int]:
    """Charge those of the conversations, locked by the caller, that are due; return the organizations concerned."""
    with connection.cursor() as cursor:
        cursor.execute(_CHARGE.format(which=_AMONG), {"ids": list(conversation_ids), "now": now})
        return {organization_id for (organization_id,) in cursor.fetchall()}


def charge_due(organization_id: int, *, now: datetime, limit: int = BATCH) -> int:
    """Charge up to `limit` conversations whose outcome has become final; return how many. Safe twice and at once."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            _CHARGE.format(which=_OF_ORGANIZATION), {"organization": organization_id, "now": now, "limit": limit}
        )
        charged = len(cursor.fetchall())
        if charged:
            transaction.on_commit(
                lambda: signals.outcomes_charged.send(sender=None, organization_ids=[organization_id])
            )
    return charged


def organizations_due(*, now: datetime) -> list[int]:
    """Return the organizations in which an outcome has become final and is not charged."""
    due = Conversation.objects.filter(due_at__lte=now).order_by("organization_id")
    return list(due.values_list("organization_id", flat=True).distinct())


def undo(judged: Sequence[Judged], *, now: datetime) -> set[int]:
    """Withdraw or reverse the charges that stand for another outcome than these; return the organizations concerned.

    One that is not settled is withdrawn: it was never charged. A settled one gets a reversal, once, and stays as it is.
    """
    wrong = [each.standing for each in judged if each.standing.charge_id is not None and _is_other(each)]
    if not wrong:
        return set()
    charge_ids = [each.charge_id for each in wrong]
    with connection.cursor() as cursor:
        cursor.execute(_WITHDRAW, {"charges": charge_ids, "now": now})
        cursor.execute(_REVERSE, {"charges": charge_ids, "now": now})
        reversed_in = {organization_id for (organization_id,) in cursor.fetchall()}
        cursor.execute(_LET_GO, [[each.id for each in wrong]])
    return reversed_in


def _is_other(judged: Judged) -> bool:
    """Say whether what stands charged is not what the events come to."""
    rules_id = judged.rules and judged.rules.version_id
    return (judged.standing.outcome, judged.standing.rules_id) != (judged.judgement.outcome, rules_id)


_AMONG = "id = ANY(%(ids)s::bigint[]) AND due_at <= %(now)s ORDER BY due_at, id"

_OF_ORGANIZATION = """
    organization_id = %(organization)s AND due_at <= %(now)s
    ORDER BY due_at, id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED"""

# Settlement goes by the numbers of charges, so they are given in the order in which the outcomes became final: which of
# them a bucket pays must not depend on where they lie. An array of places, because the planner takes it for short and
# looks each up; joined to a query, it might read the whole table for each organization.
_CHARGE = """
    WITH numbered AS MATERIALIZED (
        SELECT place, nextval('usage_outcomecharge_id_seq') AS charge_id
        FROM unnest(ARRAY(SELECT ctid FROM usage_conversation WHERE {which})) AS place),
    charged AS (
        UPDATE usage_conversation c SET charge_id = n.charge_id, revision = revision + 1, due_at = NULL
        FROM numbered n WHERE c.ctid = n.place
        RETURNING c.id, c.organization_id, c.charge_id, c.revision, c.outcome, c.reason, c.rules_id, c.decided_at)
    INSERT INTO usage_outcomecharge (id, organization_id, conversation_id, revision, kind, outcome, reason, rules_id,
                                     price_micros, decided_at, created_at)
    SELECT c.charge_id, c.organization_id, c.id, c.revision, 'charge', c.outcome, c.reason, c.rules_id, p.price_micros,
           c.decided_at, %(now)s
    FROM charged c LEFT JOIN usage_outcomeprice p ON (p.version_id, p.outcome) = (c.rules_id, c.outcome)
    RETURNING organization_id"""

# In the order of ids, as settlement locks them.
_WITHDRAW = """
    UPDATE usage_outcomecharge SET withdrawn_at = %(now)s WHERE id IN (
        SELECT id FROM usage_outcomecharge WHERE id = ANY(%(charges)s::bigint[]) AND sequence IS NULL
        ORDER BY id FOR UPDATE)
    AND sequence IS NULL"""

_REVERSE = """
    INSERT INTO usage_outcomecharge (organization_id, conversation_id, revision, kind, outcome, reason, rules_id,
                                     price_micros, decided_at, created_at, reverses_id)
    SELECT organization_id, conversation_id, revision, 'reversal', outcome, reason, rules_id, price_micros, %(now)s,
           %(now)s, id
    FROM usage_outcomecharge
    WHERE id = ANY(%(charges)s::bigint[]) AND withdrawn_at IS NULL
    ORDER BY id
    RETURNING organization_id"""

_LET_GO = "UPDATE usage_conversation SET charge_id = NULL WHERE id = ANY(%s::bigint[])"
