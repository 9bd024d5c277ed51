"""The calls that were refused: each is listed once, up to a number an hour; the rest is counted."""

from datetime import datetime

import structlog
from django.db import connection, transaction

from billing_portal.ledger.authorization import Authorization
from billing_portal.ledger.models import Direction, Refusal, RefusalHour

log = structlog.get_logger(__name__)

# A platform that dials on against a closed door must not fill the database.
LISTED_AN_HOUR = 1_000

_AGAIN = """
    UPDATE ledger_refusal SET times = times + 1, last_at = %(now)s, reason = %(reason)s, amount_micros = %(micros)s
    WHERE organization_id = %(organization)s AND call_id = %(call_id)s"""

_COUNT = """
    INSERT INTO ledger_refusalhour AS kept (organization_id, hour_at, calls, unlisted)
    VALUES (%(organization)s, date_trunc('hour', %(now)s::timestamptz), 1, 0)
    ON CONFLICT (organization_id, hour_at) DO UPDATE SET
        calls = kept.calls + 1, unlisted = kept.unlisted + (kept.calls >= %(limit)s)::int
    RETURNING calls"""

_LIST = """
    INSERT INTO ledger_refusal AS kept
        (organization_id, call_id, direction, reason, amount_micros, times, first_at, last_at)
    VALUES (%(organization)s, %(call_id)s, %(direction)s, %(reason)s, %(micros)s, 1, %(now)s, %(now)s)
    ON CONFLICT (organization_id, call_id) DO UPDATE SET times = kept.times + 1, last_at = excluded.last_at"""


def record(
    refused: Authorization,
    *,
    call_id: str,
    now: datetime,
    direction: Direction | None = None,
    micros: int | None = None,
) -> None:
    """Keep that the call `call_id` was refused. The same call again is one refused call, asked for once more."""
    values: dict[str, int | str | datetime | None] = {
        "organization": refused.standing.organization_id,
        "call_id": call_id,
        "direction": str(direction or ""),
        "reason": str(refused.reason),
        "micros": micros,
        "now": now,
        "limit": LISTED_AN_HOUR,
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_AGAIN, values)
        if cursor.rowcount:
            return
        cursor.execute(_COUNT, values)
        if cursor.fetchone()[0] <= LISTED_AN_HOUR:
            cursor.execute(_LIST, values)
    log.info("call refused", organization_id=refused.standing.organization_id, reason=str(refused.reason))


def newest(organization_id: int, *, limit: int, before: tuple[datetime, int] | None = None) -> list[Refusal]:
    """Return refused calls, the one refused last first; those after the place `before`, a `(last_at, id)`."""
    refusals = Refusal.objects.filter(organization_id=organization_id).order_by("-last_at", "-id")
    if before is not None:
        at, pk = before
        refusals = refusals.filter(last_at__lte=at).exclude(last_at=at, id__gte=pk)
    return list(refusals[:limit])


def unlisted(organization_id: int, *, since: datetime) -> list[RefusalHour]:
    """Return the hours since then in which more calls were refused than are listed, the newest first."""
    hours = RefusalHour.objects.filter(organization_id=organization_id, hour_at__gte=since, unlisted__gt=0)
    return list(hours.order_by("-hour_at"))
