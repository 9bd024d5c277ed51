"""Batches that were recorded whole, known again by their digest.

Who loses an answer sends the same bytes again. That they are known is then one look-up instead of a thousand calls
read, priced and refused by their keys. A batch is known only if each of its calls is recorded, and calls stay so for
ever; what was forgotten is read again, to the same end.
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import connection

from accounts.models import Organization

# For fewer calls, reading them costs no more than looking them up.
FEWEST = 50

_IS_KNOWN = "SELECT EXISTS (SELECT FROM usage_recordedbatch WHERE digest = %s)"
_REMEMBER = "INSERT INTO usage_recordedbatch (digest, recorded_at) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_PRUNE = """
    DELETE FROM usage_recordedbatch WHERE digest IN (
        SELECT digest FROM usage_recordedbatch WHERE recorded_at < %s ORDER BY recorded_at LIMIT %s)"""


class _Named(msgspec.Struct, gc=False):
    call_id: str
    organization: str | None = None


_decoder = msgspec.json.Decoder(_Named)


def digest_of(items: Sequence[bytes | msgspec.Raw], scope: Organization | None) -> UUID | None:
    """Return what a batch is known by; None for a small one, which is not kept."""
    if len(items) < FEWEST:
        return None
    digest = hashlib.sha256(f"{scope.pk if scope else 0} {len(items)}".encode())
    digest.update(b"\0".join(items))  # no JSON holds a NUL, so where an item ends is beyond doubt
    return UUID(bytes=digest.digest()[:16])


def is_known(digest: UUID | None) -> bool:
    """Say whether every call of this batch is recorded with the content that it has here."""
    if digest is None:
        return False
    with connection.cursor() as cursor:
        cursor.execute(_IS_KNOWN, [digest])
        return bool(cursor.fetchone()[0])


def remember(digest: UUID | None, *, now: datetime) -> None:
    """Keep that every call of this batch is recorded, in the transaction that recorded the last of them."""
    if digest is not None:
        with connection.cursor() as cursor:
            cursor.execute(_REMEMBER, [digest, now])


def names(items: Sequence[bytes | msgspec.Raw]) -> Iterator[tuple[str, str | None]]:
    """Yield (call id, organization) of a known batch's calls."""
    for item in items:
        named: Any = _decoder.decode(item)
        yield named.call_id, named.organization


def prune(*, now: datetime, limit: int = 10_000) -> int:
    """Forget batches that are older than `settings.INTAKE_KEPT`, up to `limit`; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(_PRUNE, [now - settings.INTAKE_KEPT, limit])
        return int(cursor.rowcount)
