"""The revisions of calls: read under a lock for a correction, stored with it, and told to whoever asks later.

A call's key is locked, so that of two corrections of one call the second sees the first. Ordinary calls never wait for
that lock, and keys are locked in order, as they are inserted.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from usage import deltas, prices
from usage.models import Call, CallRevision
from usage.storage import key_of


@dataclass(slots=True)
class Current:
    """The newest revision of a call, as a correction finds it.

    `before` is the price in full, by component, of the newest revision that has one; its row is `replaces_id`, none
    where no price ever covered the call. `digests` are those of all revisions, by number.
    """

    organization_id: int
    key: UUID
    call_id: str
    revision: int
    id: int
    started_at: datetime
    is_unpriced: bool
    before: dict[str, int]
    replaces_id: int | None
    replaces_at: datetime | None
    replaces_zone: str
    pinned_version_id: int | None
    digests: dict[int, bytes] = field(default_factory=dict)


_LOCK = """
    SELECT k.organization_id, k.key, k.digest, k.started_at FROM usage_callkey k
    JOIN unnest(%s::bigint[], %s::uuid[]) AS asked (o, h) ON (k.organization_id, k.key) = (o, h)
    ORDER BY k.organization_id, k.key FOR NO KEY UPDATE OF k"""

_REVISIONS = """
    SELECT v.organization_id, v.key, v.revision, v.digest, v.id, v.started_at, v.replaces_id, v.replaces_at,
           v.replaces_zone, v.pinned_version_id, v.before_micros::text, v.line_micros
    FROM usage_callrevision v
    JOIN unnest(%s::bigint[], %s::uuid[]) AS asked (o, h) ON (v.organization_id, v.key) = (o, h)
    ORDER BY v.organization_id, v.key, v.revision"""

_ROWS = """
    SELECT c.organization_id, c.call_id, c.id, c.started_at, c.amount_micros IS NULL, m.rate_ids, c.line_micros,
           coalesce(r.time_zone, '')
    FROM unnest(%s::bigint[], %s::timestamptz[], %s::text[], %s::smallint[]) AS asked (o, s, i, n)
    JOIN usage_call c ON c.organization_id = o AND c.started_at = s AND c.call_id = i AND c.revision = n
    JOIN usage_productmix m ON m.id = c.mix_id
    LEFT JOIN LATERAL (
        SELECT last_id, time_zone FROM usage_callrange
        WHERE organization_id = c.organization_id AND first_id <= c.id ORDER BY first_id DESC LIMIT 1
    ) AS r ON r.last_id >= c.id"""

_LOCK_UNRATED = """
    SELECT id FROM usage_unratedcall WHERE (organization_id, id) IN (SELECT * FROM unnest(%s::bigint[], %s::bigint[]))
    ORDER BY organization_id, id FOR UPDATE"""

_GIVE_UP_PRICE = """
    DELETE FROM usage_unratedcall WHERE (organization_id, id) IN (SELECT * FROM unnest(%s::bigint[], %s::bigint[]))"""


def lock(asked: Collection[tuple[int, str]]) -> dict[tuple[int, str], Current]:
    """Return the newest revisions of calls, by organization and id, kept from other corrections until the transaction
    ends. An id that is not known, or whose call is in the archive, is left out.
    """
    names = {(organization_id, key_of(call_id)): call_id for organization_id, call_id in asked}
    columns: list[list[Any]] = [[organization_id for organization_id, _ in names], [key for _, key in names]]
    keys = {(o, key): (digest, started_at) for o, key, digest, started_at in _rows(_LOCK, columns)}
    later: dict[tuple[int, UUID], list[tuple[Any, ...]]] = {}
    for o, key, *revision in _rows(_REVISIONS, columns):
        later.setdefault((o, key), []).append(tuple(revision))
    wanted = [
        (o, found[-1][3] if (found := later.get((o, key))) else keys[o, key][1], names[o, key], len(found or ()) + 1)
        for o, key in sorted(keys)
    ]
    current = {}
    for row in _newest(wanted):
        place = (row[0], key_of(row[1]))
        current[row[0], row[1]] = _current(place[1], keys[place][0], row, later.get(place, []))
    return current


def _newest(wanted: list[tuple[int, datetime, str, int]]) -> list[tuple[Any, ...]]:
    """Return the rows of calls; none that is being rated at this moment: its price is waited for."""
    columns = [list(column) for column in zip(*wanted, strict=True)] or [[], [], [], []]
    rows = _rows(_ROWS, columns)
    unpriced = [row for row in rows if row[4]]
    if unpriced:
        _rows(_LOCK_UNRATED, [[row[0] for row in unpriced], [row[2] for row in unpriced]])
        rows = _rows(_ROWS, columns)
    return rows


def _current(key: UUID, first_digest: UUID, row: tuple[Any, ...], later: list[tuple[Any, ...]]) -> Current:
    organization_id, call_id, call, started_at, is_unpriced, rate_ids, line_micros, time_zone = row
    before: dict[str, int] = {}
    replaces: tuple[int | None, datetime | None, str] = (None, None, "")
    pinned = None
    if later:
        *_, replaces_id, replaces_at, replaces_zone, pinned, text, in_full = later[-1]
        before, replaces = json.loads(text), (replaces_id, replaces_at, replaces_zone)
        line_micros = in_full
    if not is_unpriced:
        refs = prices.rate_refs(set(rate_ids))
        before = dict(deltas.by_component([refs[each].component for each in rate_ids], line_micros))
        replaces = (call, started_at, time_zone)
    digests = {1: first_digest.bytes} | {number: digest.bytes for number, digest, *_ in later}
    return Current(
        organization_id,
        key,
        call_id,
        len(later) + 1,
        call,
        started_at,
        is_unpriced,
        before,
        *replaces,
        pinned,
        digests,
    )


def give_up_prices(superseded: Iterable[Current]) -> None:
    """Let calls that were corrected before a price covered them wait for none: they will never be charged."""
    waiting = [each for each in superseded if each.is_unpriced]
    if waiting:
        with connection.cursor() as cursor:
            columns = [[each.organization_id for each in waiting], [each.id for each in waiting]]
            cursor.execute(_GIVE_UP_PRICE, columns)


def digests(asked: Collection[tuple[int, str]]) -> dict[tuple[int, str], set[bytes]]:
    """Return the digests of the later revisions of calls, by organization and id; those without any are left out."""
    names = {(organization_id, key_of(call_id)): call_id for organization_id, call_id in asked}
    columns: list[list[Any]] = [[organization_id for organization_id, _ in names], [key for _, key in names]]
    found: dict[tuple[int, str], set[bytes]] = {}
    for o, key, _, digest, *_ in _rows(_REVISIONS, columns):
        found.setdefault((o, names[o, key]), set()).add(digest.bytes)
    return found


class GivenBack(NamedTuple):
    """What a settled revision costs less than was charged before: micros by component.

    `in_month_micros` is how much of that takes back what the call was charged in the month in which the revision is
    billed; the rest was charged in a month before.
    """

    call_id: str
    revision: int
    origin: str
    author_id: int | None
    reason: str
    components: dict[str, int]
    in_month_micros: int


_GIVEN_BACK = """
    SELECT c.call_id, v.revision, v.origin, v.author_id, v.reason, v.given_back::text FROM usage_callrange r
    JOIN usage_callrevision v ON v.organization_id = r.organization_id AND v.id BETWEEN r.first_id AND r.last_id
    JOIN usage_call c ON c.organization_id = v.organization_id AND c.started_at = v.started_at AND c.id = v.id
    WHERE r.organization_id = %s AND r.first_id = ANY(%s) AND v.given_back_micros > 0
    ORDER BY r.first_sequence, v.id"""


# All revisions of calls that are billed in one month, each with what was charged of it and what it gave back.
_BILLED_IN = """
    WITH asked AS (SELECT * FROM unnest(%(call_ids)s::text[], %(keys)s::uuid[]) AS asked (call_id, key)),
    places AS (
        SELECT a.call_id, k.started_at FROM asked a
        JOIN usage_callkey k ON k.organization_id = %(organization)s AND k.key = a.key
        UNION
        SELECT a.call_id, v.started_at FROM asked a
        JOIN usage_callrevision v ON v.organization_id = %(organization)s AND v.key = a.key)
    SELECT c.call_id, c.revision, c.amount_micros, coalesce(v.given_back_micros, 0)
    FROM places p
    JOIN usage_call c ON c.organization_id = %(organization)s AND c.started_at = p.started_at
     AND c.call_id = p.call_id AND c.amount_micros IS NOT NULL
    LEFT JOIN usage_callrevision v ON c.revision > 1 AND v.organization_id = c.organization_id AND v.id = c.id
    JOIN LATERAL (
        SELECT last_id, billed_month FROM usage_callrange
        WHERE organization_id = c.organization_id AND first_id <= c.id ORDER BY first_id DESC LIMIT 1
    ) AS r ON r.last_id >= c.id AND r.billed_month = %(month)s
    ORDER BY c.call_id, c.revision"""


def given_back(organization_id: int, first_ids: Sequence[int], month: date) -> list[GivenBack]:
    """Return what the revisions in these ranges, which are billed in the month, give back, in their order."""
    rows = _rows(_GIVEN_BACK, [organization_id, list(first_ids)])
    taken_back = _taken_back(organization_id, {row[0] for row in rows}, month) if rows else {}
    return [
        GivenBack._make([*facts, json.loads(text), taken_back.get((facts[0], facts[1]), 0)]) for *facts, text in rows
    ]


def _taken_back(organization_id: int, call_ids: Collection[str], month: date) -> dict[tuple[str, int], int]:
    """Return how much of what the month charged for calls each of their revisions takes back, by call and revision."""
    names = sorted(call_ids)
    values: dict[str, Any] = {
        "organization": organization_id,
        "call_ids": names,
        "keys": [key_of(call_id) for call_id in names],
        "month": month,
    }
    with connection.cursor() as cursor:
        cursor.execute(_BILLED_IN, values)
        rows = cursor.fetchall()
    left: Counter[str] = Counter()
    taken = {}
    for call_id, revision, charged, given in rows:
        taken[call_id, revision] = min(given, left[call_id])
        left[call_id] += charged - taken[call_id, revision]
    return taken


class Settled(NamedTuple):
    """A settled revision with all that its charge follows from: prices in full with the rates of their lines."""

    call_id: str
    revision: int
    sequence: int
    rate_ids: list[int]
    price_micros: list[int]
    charged_micros: list[int]
    before: dict[str, int]
    given_back: dict[str, int]
    replaced_rate_ids: list[int] | None
    replaced_micros: list[int] | None


_SETTLED = """
    SELECT c.call_id, v.revision, r.first_sequence + c.id - r.first_id, m.rate_ids, v.line_micros, c.line_micros,
           v.before_micros::text, v.given_back::text, p.rate_ids, coalesce(w.line_micros, o.line_micros)
    FROM usage_callrange r
    JOIN usage_callrevision v ON v.organization_id = r.organization_id AND v.id BETWEEN r.first_id AND r.last_id
    JOIN usage_call c ON c.organization_id = v.organization_id AND c.started_at = v.started_at AND c.id = v.id
    JOIN usage_productmix m ON m.id = c.mix_id
    LEFT JOIN usage_call o ON o.organization_id = v.organization_id AND o.started_at = v.replaces_at
     AND o.id = v.replaces_id
    LEFT JOIN usage_productmix p ON p.id = o.mix_id
    LEFT JOIN usage_callrevision w ON w.organization_id = v.organization_id AND w.id = v.replaces_id
    WHERE r.organization_id = %s AND r.billed_month = %s ORDER BY r.first_sequence, v.id"""


def of_month(organization_id: int, month: date) -> Iterator[Settled]:
    """Yield the revisions billed in a month, in the order of their numbers."""
    with connection.chunked_cursor() as cursor:
        cursor.execute(_SETTLED, [organization_id, month])
        while rows := cursor.fetchmany(2_000):
            for *facts, before, given, rate_ids, micros in rows:
                yield Settled._make([*facts, json.loads(before), json.loads(given), rate_ids, micros])


def of(call: Call) -> CallRevision | None:
    """Return what a call's row says of itself as a revision; None for a call as first recorded."""
    if call.revision == 1:
        return None
    return CallRevision.objects.get(organization_id=call.organization_id, id=call.id)


def all_of(organization_id: int, call_id: str) -> Sequence[CallRevision]:
    """Return the later revisions of a call, in order."""
    return list(CallRevision.objects.filter(organization_id=organization_id, key=key_of(call_id)).order_by("revision"))


def _rows(query: str, values: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())
