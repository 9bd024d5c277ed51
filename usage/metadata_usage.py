"""Sums by the values of metadata keys that organizations chose: counted in the order of settlement, a slice at a time.

A key is chosen by a person, so its sums cannot be kept from the start, and no request may read millions of calls. From
each key's place on, settled calls are added to its sums and the place moves with them, in one transaction: the first
time that is a job with progress, later a small step after each settlement. Settlement itself pays nothing for it. How
the calls are cut into slices changes nothing: which values get sums of their own depends on their order alone.
"""

from collections.abc import Collection
from datetime import date, datetime
from typing import Any, NamedTuple

from django.db import connection, transaction

from accounts.models import Organization
from accounts.phrased import Columns
from usage import periods
from usage.breakdowns import Part
from usage.models import DailyMetadataUsage, MetadataKey

MOST_KEYS = 10
# More values than a person can compare are not told apart: an id of a session would have as many as there are calls.
MOST_VALUES = 1_000
LONGEST_VALUE = 100
SLICE = 50_000
_RANGES = 5_000
_LOOKED_AT = 500
# What stands for a part that is no value; no text of PostgreSQL's can be it.
OTHERS = "\0others"
_Kind = DailyMetadataUsage.Kind


class TooManyKeys(Exception):
    """The organization has as many keys as it may."""

    def __init__(self) -> None:
        super().__init__(f"{MOST_KEYS} keys are counted already. Remove one first.")


class Progress(NamedTuple):
    """How many of the settled calls are in a key's sums."""

    counted: int
    settled: int

    @property
    def is_done(self) -> bool:
        return self.counted >= self.settled


_FIRST = """
    SELECT coalesce(min(first_sequence) - 1, (
        SELECT max(first_sequence + last_id - first_id) FROM usage_callrange
        WHERE organization_id = %(organization)s AND first_sequence IS NOT NULL
    ), 0) FROM usage_callrange
    WHERE organization_id = %(organization)s AND first_sequence IS NOT NULL AND ends_at >= %(starts_at)s"""
_LAST = """
    SELECT first_sequence + last_id - first_id FROM usage_callrange
    WHERE organization_id = %s AND first_sequence IS NOT NULL ORDER BY first_sequence DESC LIMIT 1"""
_BEHIND = f"""
    SELECT k.id FROM usage_metadatakey k
    CROSS JOIN LATERAL ({_LAST.replace("%s", "k.organization_id")}) AS last (number)
    WHERE last.number > k.counted_through ORDER BY k.id LIMIT %s"""
# Whole ranges, in their order, until they hold as many calls as a slice.
_NEXT = """
    SELECT array_agg(first_id ORDER BY first_sequence), max(last) FROM (
        SELECT first_id, first_sequence, first_sequence + last_id - first_id AS last
        FROM usage_callrange WHERE organization_id = %s AND first_sequence > %s ORDER BY first_sequence LIMIT %s
    ) AS next WHERE first_sequence <= %s"""
_ADD = """
    WITH called AS (
        SELECT (c.started_at AT TIME ZONE r.time_zone)::date AS date, r.first_sequence + c.id - r.first_id AS number,
               c.revision, c.duration_ms, c.amount_micros, d.metadata -> %(key)s AS found,
               d.metadata ->> %(key)s AS value
        FROM usage_callrange r
        JOIN usage_call c ON c.organization_id = r.organization_id
         AND c.started_at BETWEEN r.starts_at AND r.ends_at AND c.id BETWEEN r.first_id AND r.last_id
        LEFT JOIN usage_calldetail d
          ON d.organization_id = c.organization_id AND d.started_at = c.started_at AND d.id = c.id
        WHERE r.organization_id = %(organization)s AND r.first_id = ANY(%(ranges)s)
    ), judged AS (
        SELECT *, CASE WHEN value IS NULL THEN 0
                       WHEN jsonb_typeof(found) IN ('object', 'array') OR length(value) > %(longest)s THEN 2
                       ELSE 1 END AS kind
        FROM called WHERE date >= %(starts_on)s
    ), known AS (
        SELECT DISTINCT value FROM usage_dailymetadatausage
        WHERE organization_id = %(organization)s AND key_id = %(key_id)s AND kind = 1
    ), admitted AS (
        SELECT value FROM known
        UNION ALL
        (SELECT value FROM judged WHERE kind = 1 AND value NOT IN (SELECT value FROM known)
         GROUP BY value ORDER BY min(number)
         LIMIT greatest(0, %(most)s - (SELECT count(*) FROM known)))
    ), told AS (
        SELECT date, CASE WHEN j.kind = 1 AND a.value IS NULL THEN 2 ELSE j.kind END AS kind,
               coalesce(a.value, '') AS value, revision, duration_ms, amount_micros
        FROM judged j LEFT JOIN admitted a ON j.kind = 1 AND a.value = j.value
    )
    INSERT INTO usage_dailymetadatausage AS kept
        (organization_id, key_id, date, kind, value, calls, duration_ms, micros)
    SELECT %(organization)s, %(key_id)s, date, kind, value, count(*) FILTER (WHERE revision = 1),
           coalesce(sum(duration_ms) FILTER (WHERE revision = 1), 0), sum(amount_micros)
    FROM told GROUP BY date, kind, value ORDER BY date, kind, value
    ON CONFLICT (organization_id, key_id, date, kind, value) DO UPDATE SET
        calls = kept.calls + excluded.calls,
        duration_ms = kept.duration_ms + excluded.duration_ms,
        micros = kept.micros + excluded.micros"""

_WHERE = "organization_id = %(organization)s AND key_id = %(key_id)s AND date BETWEEN %(starts_on)s AND %(ends_on)s"
_TOTALS = f"""
    SELECT kind, value, sum(calls)::bigint, sum(duration_ms)::bigint, sum(micros)::bigint
    FROM usage_dailymetadatausage WHERE {_WHERE} GROUP BY 1, 2 ORDER BY 5 DESC, 1, 2"""
_DAYS = f"""
    SELECT date, CASE WHEN kind = 1 AND value = ANY(%(values)s) THEN value END, sum(micros)::bigint
    FROM usage_dailymetadatausage WHERE {_WHERE} GROUP BY 1, 2"""
_SEEN = """
    SELECT name, count(*) FROM (
        SELECT metadata FROM usage_calldetail WHERE organization_id = %s ORDER BY started_at DESC, id DESC LIMIT %s
    ) AS newest CROSS JOIN LATERAL jsonb_object_keys(metadata) AS name
    WHERE length(name) BETWEEN 1 AND 64 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20"""


def track(*, organization: Organization, key: str, starts_on: date, now: datetime) -> MetadataKey:
    """Have the values of a key summed up, for calls of `starts_on` and later; a key that is stays as it is.

    Raises TooManyKeys. Nothing is counted yet: `count` does that.
    """
    with transaction.atomic():
        Organization.objects.select_for_update(of=("self",), no_key=True).get(pk=organization.pk)
        mine = MetadataKey.objects.filter(organization=organization)
        if found := mine.filter(key=key).first():
            return found
        if mine.count() >= MOST_KEYS:
            raise TooManyKeys
        with connection.cursor() as cursor:
            values: dict[str, Any] = {
                "organization": organization.pk,
                "starts_at": periods.starts_at(starts_on, organization.zone),
            }
            cursor.execute(_FIRST, values)
            place = cursor.fetchone()[0]
        return MetadataKey.objects.create(
            organization=organization, key=key, starts_on=starts_on, counted_through=place, asked_at=now
        )


def untrack(*, organization: Organization, key: str) -> bool:
    """Forget a key with its sums; say whether there was one."""
    with transaction.atomic():
        found = MetadataKey.objects.select_for_update().filter(organization=organization, key=key).first()
        if found is None:
            return False
        DailyMetadataUsage.objects.filter(organization=organization, key=found).delete()
        found.delete()
    return True


_KEY = Columns(MetadataKey, "k")
_KEYS = f"SELECT {_KEY.sql} FROM usage_metadatakey k WHERE k.organization_id = %s ORDER BY k.key"


def keys_of(organization_id: int) -> list[MetadataKey]:
    """Return the organization's keys by name."""
    with connection.cursor() as cursor:
        cursor.execute(_KEYS, [organization_id])
        return [_KEY.read(row) for row in cursor.fetchall()]


def count(key_id: int, *, limit: int = SLICE) -> int:
    """Add the next settled calls to a key's sums, whole ranges of about `limit` calls; return how many, 0 at the end.

    One that is being counted by somebody else is left to them.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        key = MetadataKey.objects.select_for_update(skip_locked=True).filter(pk=key_id).first()
        if key is None:
            return 0
        place = key.counted_through
        cursor.execute(_NEXT, [key.organization_id, place, _RANGES, place + limit])
        ranges, last = cursor.fetchone()
        if not ranges:
            return 0
        cursor.execute(
            _ADD,
            {
                "organization": key.organization_id,
                "key_id": key.pk,
                "key": key.key,
                "ranges": ranges,
                "starts_on": key.starts_on,
                "longest": LONGEST_VALUE,
                "most": MOST_VALUES,
            },
        )
        MetadataKey.objects.filter(pk=key_id).update(counted_through=last)
        return int(last) - place


def behind(limit: int) -> list[int]:
    """Return up to `limit` keys that lack settled calls."""
    with connection.cursor() as cursor:
        cursor.execute(_BEHIND, [limit])
        return [key_id for (key_id,) in cursor.fetchall()]


def progress(key: MetadataKey) -> Progress:
    """Return how far a key is, in all calls of its organization."""
    with connection.cursor() as cursor:
        cursor.execute(_LAST, [key.organization_id])
        last = cursor.fetchone()
    return Progress(key.counted_through, last[0] if last else 0)


def totals(key: MetadataKey, *, starts_on: date, ends_on: date) -> list[Part]:
    """Return every value's part of the days, both included, the dearest first, as `breakdowns.totals` does.

    The part of calls without the key has the value None, that of all further values `OTHERS`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_TOTALS, _values(key, starts_on, ends_on))
        rows = cursor.fetchall()
    values = {_Kind.NONE.value: None, _Kind.OTHER.value: OTHERS}
    return [Part(values.get(kind, value), value, *sums) for kind, value, *sums in rows]


def by_day(
    key: MetadataKey, *, starts_on: date, ends_on: date, values: Collection[str]
) -> dict[tuple[date, str | None], int]:
    """Return micros by (day, value) of these values; all others together are under None."""
    with connection.cursor() as cursor:
        cursor.execute(_DAYS, _values(key, starts_on, ends_on) | {"values": list(values)})
        return {(on, value): micros for on, value, micros in cursor.fetchall()}


def seen_keys(organization_id: int) -> list[tuple[str, int]]:
    """Return which keys the newest calls with metadata have, and how many of them, the commonest first."""
    with connection.cursor() as cursor:
        cursor.execute(_SEEN, [organization_id, _LOOKED_AT])
        return list(cursor.fetchall())


def _values(key: MetadataKey, starts_on: date, ends_on: date) -> dict[str, Any]:
    return {"organization": key.organization_id, "key_id": key.pk, "starts_on": starts_on, "ends_on": ends_on}
