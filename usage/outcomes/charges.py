"""The ledger's side of outcomes: what waits for settlement, and what settlement decided. Only the ledger calls this."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Sum

from usage.models.outcomes import DailyOutcomes, OutcomeCharge

REVERSAL = str(OutcomeCharge.Kind.REVERSAL)


class Waiting(NamedTuple):
    """An outcome to be paid for, or one to be given back, with what it cost then (`reversed_…`)."""

    id: int
    kind: str
    outcome: str
    price_micros: int
    decided_at: datetime
    conversation: str
    reason: str
    reverses_id: int | None
    reversed_micros: int | None
    reversed_bucket_id: int | None


class Settled(NamedTuple):
    """What settlement decided about one: its number, what it cost in money, and the bucket that gave or got a unit."""

    id: int
    sequence: int
    amount_micros: int
    bucket_id: int | None


def take(organization_id: int, limit: int) -> list[Waiting]:
    """Return up to `limit` waiting charges and reversals, the oldest first, locked until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, [organization_id, limit])
        return [Waiting(*row) for row in cursor.fetchall()]


def settle(organization_id: int, settled: Sequence[Settled], *, month: date, time_zone: str) -> None:
    """Write what settlement decided, and add it to the rollup. The caller holds the account's lock."""
    parameters: dict[str, Any] = {
        "organization": organization_id,
        "month": month,
        "zone": time_zone,
        "ids": [each.id for each in settled],
        "sequences": [each.sequence for each in settled],
        "amounts": [each.amount_micros for each in settled],
        "buckets": [each.bucket_id for each in settled],
    }
    with connection.cursor() as cursor:
        cursor.execute(_SETTLE, parameters)
        if cursor.rowcount != len(settled):
            raise RuntimeError("An outcome charge was settled by someone else, without the account's lock.")
        cursor.execute(_FOLD, parameters | {"first": settled[0].sequence, "last": settled[-1].sequence})


def organizations_waiting(*, limit: int) -> list[int]:
    """Return organizations in which an outcome waits for settlement."""
    with connection.cursor() as cursor:
        cursor.execute(_ORGANIZATIONS, [limit])
        return [organization_id for (organization_id,) in cursor.fetchall()]


def totals(organization_id: int, month: date) -> dict[str, int]:
    """Return what the outcomes billed in a month cost, in micros by type, from the rollup."""
    of_month = DailyOutcomes.objects.filter(organization_id=organization_id, billed_month=month, amount_micros__gt=0)
    sums = of_month.order_by("outcome").values_list("outcome").annotate(Sum("amount_micros"))
    return {outcome: int(micros) for outcome, micros in sums}


def rebuild(organization_id: int) -> None:
    """Make the rollup of an organization anew from its charges: the same rows, by the same sums (I9)."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM usage_dailyoutcomes WHERE organization_id = %s", [organization_id])
        cursor.execute(_FOLD, {"organization": organization_id, "first": 1, "last": 2**63 - 1})


def differences(organization_id: int) -> list[tuple[date, str, int, int]]:
    """Return where the rollup is not what the charges come to: (day, outcome, micros expected, micros found)."""
    with connection.cursor() as cursor:
        cursor.execute(_DIFFERENCES, {"organization": organization_id, "first": 1, "last": 2**63 - 1})
        return [(day, outcome, expected, found) for day, outcome, expected, found in cursor.fetchall()]


_TAKE = """
    SELECT h.id, h.kind, h.outcome, h.price_micros, h.decided_at, c.reference, h.reason, h.reverses_id,
           r.amount_micros, r.bucket_id
    FROM usage_outcomecharge h
    JOIN usage_conversation c ON c.id = h.conversation_id
    LEFT JOIN usage_outcomecharge r ON r.id = h.reverses_id
    WHERE h.organization_id = %s AND h.sequence IS NULL AND h.withdrawn_at IS NULL
    ORDER BY h.id LIMIT %s FOR UPDATE OF h"""

_SETTLE = """
    UPDATE usage_outcomecharge h SET sequence = s.sequence, amount_micros = s.amount_micros, bucket_id = s.bucket_id,
        billed_month = %(month)s, day = (h.decided_at AT TIME ZONE %(zone)s)::date
    FROM unnest(%(ids)s::bigint[], %(sequences)s::bigint[], %(amounts)s::bigint[], %(buckets)s::bigint[])
         AS s (id, sequence, amount_micros, bucket_id)
    WHERE h.id = s.id AND h.organization_id = %(organization)s AND h.sequence IS NULL"""

_SUMS = """
    SELECT organization_id, day, billed_month, outcome, rules_id, kind, reason, bucket_id IS NOT NULL AS by_bucket,
           count(*) AS outcomes, sum(amount_micros) AS amount_micros
    FROM usage_outcomecharge
    WHERE organization_id = %(organization)s AND sequence BETWEEN %(first)s AND %(last)s
    GROUP BY organization_id, day, billed_month, outcome, rules_id, kind, reason, bucket_id IS NOT NULL"""

_FOLD = f"""
    INSERT INTO usage_dailyoutcomes AS kept (organization_id, day, billed_month, outcome, rules_id, kind, reason,
                                             by_bucket, outcomes, amount_micros)
    {_SUMS}
    ON CONFLICT (organization_id, day, billed_month, outcome, rules_id, kind, reason, by_bucket) DO UPDATE SET
        outcomes = kept.outcomes + excluded.outcomes, amount_micros = kept.amount_micros + excluded.amount_micros"""

_DIFFERENCES = f"""
    SELECT coalesce(a.day, b.day), coalesce(a.outcome, b.outcome), coalesce(a.amount_micros, 0),
           coalesce(b.amount_micros, 0)
    FROM ({_SUMS}) a
    FULL JOIN (SELECT * FROM usage_dailyoutcomes WHERE organization_id = %(organization)s) b
        USING (organization_id, day, billed_month, outcome, rules_id, kind, reason, by_bucket)
    WHERE (a.outcomes, a.amount_micros) IS DISTINCT FROM (b.outcomes, b.amount_micros)"""

_ORGANIZATIONS = """
    SELECT o.id FROM accounts_organization o WHERE EXISTS (
        SELECT FROM usage_outcomecharge h WHERE h.organization_id = o.id AND h.sequence IS NULL
        AND h.withdrawn_at IS NULL)
    ORDER BY o.id LIMIT %s"""
