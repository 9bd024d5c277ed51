"""What arrived and changed nothing: items that were rejected, and copies of calls that were known.

A log for people who ask what became of an id. It is kept for `settings.INTAKE_KEPT`; nothing is computed from it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection

from usage.models import Rejection
from usage.storage import key_of

log = structlog.get_logger(__name__)

# What is read at most to find the copies of one call: the newest requests that had any.
_LOOKED_THROUGH = 20_000
_FIELD, _REASON = 200, 500


class Rejected(NamedTuple):
    """An item that was refused, of an organization that is known; `position` is its place in the request, from 0."""

    organization_id: int
    call_id: str | None
    position: int
    field: str
    reason: str


class Repeated(NamedTuple):
    """An item whose id was known: the same content again, or another, which is a conflict."""

    organization_id: int
    call_id: str
    is_conflict: bool


@dataclass(frozen=True, slots=True)
class Copies:
    """How often copies of one call arrived, and when first and last."""

    times: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Intake:
    """What the log knows of one call's id."""

    rejection: Rejection | None
    duplicates: Copies
    conflicts: Copies

    @property
    def is_empty(self) -> bool:
        return self.rejection is None and not self.duplicates.times and not self.conflicts.times


# In the order of their keys, so that two requests with the same items wait for each other and never in a circle.
_NOTE_REJECTED = """
    INSERT INTO usage_rejection AS known
        (organization_id, key, call_id, index, field, reason, times, api_key_id, first_received_at, last_received_at)
    SELECT o, k, c, i, f, r, t, %(api_key)s, %(now)s, %(now)s
    FROM unnest(%(o)s::bigint[], %(k)s::uuid[], %(c)s::text[], %(i)s::int[], %(f)s::text[], %(r)s::text[],
                %(t)s::bigint[]) AS item (o, k, c, i, f, r, t)
    ON CONFLICT (organization_id, key) DO UPDATE SET
        index = excluded.index, field = excluded.field, reason = excluded.reason, api_key_id = excluded.api_key_id,
        times = known.times + excluded.times, last_received_at = excluded.last_received_at"""

_NOTE_REPEATED = """
    INSERT INTO usage_redelivery (organization_id, duplicates, conflicts, api_key_id, received_at)
    SELECT o, d::bigint[], c::bigint[], %s, %s FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS item (o, d, c)"""

_COPIES = """
    WITH recent AS MATERIALIZED (
        SELECT received_at, %(key)s = ANY(duplicates) AS duplicate, %(key)s = ANY(conflicts) AS conflict
        FROM usage_redelivery WHERE organization_id = %(o)s ORDER BY received_at DESC, id DESC LIMIT %(limit)s
    )
    SELECT count(*) FILTER (WHERE duplicate), min(received_at) FILTER (WHERE duplicate),
           max(received_at) FILTER (WHERE duplicate), count(*) FILTER (WHERE conflict),
           min(received_at) FILTER (WHERE conflict), max(received_at) FILTER (WHERE conflict)
    FROM recent WHERE duplicate OR conflict"""

_OPEN = """
    FROM usage_rejection r WHERE organization_id = %s AND last_received_at >= %s AND NOT EXISTS (
        SELECT FROM usage_callkey k WHERE k.organization_id = r.organization_id AND k.key = r.key
    )"""

_PRUNE = """
    DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {column} < %s ORDER BY {column} LIMIT %s)"""


def note(
    rejected: Iterable[Rejected], repeated: Iterable[Repeated], *, now: datetime, api_key_id: int | None = None
) -> None:
    """Keep what was refused and what was known already: one statement for each kind, none for nothing.

    In the caller's transaction, as the last that it locks.
    """
    _note_rejected(rejected, now, api_key_id)
    _note_repeated(repeated, now, api_key_id)


def of_call(organization_id: int, call_id: str) -> Intake:
    """Return what the log knows of a call's id, whether or not the call was ever recorded."""
    rejections = Rejection.objects.filter(organization_id=organization_id, key=key_of(call_id), call_id=call_id)
    with connection.cursor() as cursor:
        cursor.execute(_COPIES, {"o": organization_id, "key": _short(call_id), "limit": _LOOKED_THROUGH})
        duplicates, first, last, conflicts, first_conflict, last_conflict = cursor.fetchone()
    return Intake(rejections.first(), Copies(duplicates, first, last), Copies(conflicts, first_conflict, last_conflict))


def open_rejections(organization_id: int, *, since: datetime, limit: int = 50) -> list[Rejection]:
    """Return the items refused since then that were never recorded afterwards, the newest first."""
    with connection.cursor() as cursor:
        query = f"SELECT id {_OPEN} ORDER BY last_received_at DESC, id DESC LIMIT %s"
        cursor.execute(query, [organization_id, since, limit])
        ids = [row[0] for row in cursor.fetchall()]
    rows = Rejection.objects.in_bulk(ids)
    return [rows[each] for each in ids]


def count_open_rejections(organization_id: int, *, since: datetime, most: int = 10_000) -> int:
    """Return how many items refused since then were never recorded afterwards; it counts to `most`."""
    with connection.cursor() as cursor:
        query = f"SELECT count(*) FROM (SELECT {_OPEN} LIMIT %s) AS counted"
        cursor.execute(query, [organization_id, since, most])
        count: int = cursor.fetchone()[0]
        return count


def prune(*, now: datetime, limit: int = 10_000) -> int:
    """Forget what is older than `settings.INTAKE_KEPT`, up to `limit` rows of each kind; return how many."""
    before = now - settings.INTAKE_KEPT
    forgotten = 0
    with connection.cursor() as cursor:
        for table, column in (
            ("usage_rejection", "last_received_at"),
            ("usage_redelivery", "received_at"),
            ("usage_sequencerange", "last_received_at"),
        ):
            cursor.execute(_PRUNE.format(table=table, column=column), [before, limit])
            forgotten += cursor.rowcount
    if forgotten:
        log.info("intake log pruned", rows=forgotten)
    return forgotten


def _note_rejected(rejected: Iterable[Rejected], now: datetime, api_key_id: int | None) -> None:
    latest: dict[tuple[int, UUID], Rejected] = {}
    times: dict[tuple[int, UUID], int] = {}
    for item in rejected:
        key = (item.organization_id, _key_of(item))
        latest[key] = item
        times[key] = times.get(key, 0) + 1
    if not latest:
        return
    ordered = sorted(latest)
    items = [latest[key] for key in ordered]
    values = {
        "now": now,
        "api_key": api_key_id,
        "o": [organization_id for organization_id, _ in ordered],
        "k": [key for _, key in ordered],
        "c": [item.call_id or "" for item in items],
        "i": [item.position for item in items],
        "f": [_text(item.field, _FIELD) for item in items],
        "r": [_text(item.reason, _REASON) for item in items],
        "t": [times[key] for key in ordered],
    }
    with connection.cursor() as cursor:
        cursor.execute(_NOTE_REJECTED, values)


def _note_repeated(repeated: Iterable[Repeated], now: datetime, api_key_id: int | None) -> None:
    keys: dict[int, tuple[list[int], list[int]]] = {}
    for item in repeated:
        keys.setdefault(item.organization_id, ([], []))[item.is_conflict].append(_short(item.call_id))
    if not keys:
        return
    duplicates = [_array(each) for each, _ in keys.values()]
    conflicts = [_array(each) for _, each in keys.values()]
    with connection.cursor() as cursor:
        cursor.execute(_NOTE_REPEATED, [api_key_id, now, list(keys), duplicates, conflicts])


def _key_of(item: Rejected) -> UUID:
    """Return the key of the call's id; without one, of what was wrong."""
    if item.call_id:
        return key_of(item.call_id)
    return UUID(bytes=hashlib.sha256(f"\x00{item.field}\x00{item.reason}".encode()).digest()[:16])


def _text(value: str, longest: int) -> str:
    """Return a text as the database can hold it."""
    return value.replace("\0", "\ufffd")[:longest]


def _short(call_id: str) -> int:
    """Return the first eight bytes of the id's key."""
    return int.from_bytes(hashlib.sha256(call_id.encode()).digest()[:8], "big", signed=True)


def _array(numbers: list[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"
