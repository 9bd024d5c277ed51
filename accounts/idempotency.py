"""`Idempotency-Key`: a request that is sent again gets the very answer it got the first time.

What requests do is safe to repeat anyway, by the identity of what they carry; this gives the sender who lost an answer
that answer, and not "it was done before". An answer is kept for a day. A request that failed leaves nothing: its key is
free again. Who dies at work holds the key for a minute, and its successor does the work again.
"""

import contextlib
import hashlib
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse

from accounts.models import KeptAnswer, Organization
from accounts.problems import Problem

HEADER, REPLAYED = "Idempotency-Key", "Idempotent-Replayed"
KEPT_SECONDS = 24 * 3600
# Longer than any request of a web process takes (`web_connections`, and the server's own limit).
LEASE_SECONDS = 60
_LONGEST_KEY = 255
_FORGOTTEN_AT_ONCE = 10_000
# What beside the body decides on what is asked; further headers say how it travelled.
_ASKING = ("Content-Type", "Prefer")
_ASKING_PREFIX = "Ce-"

# Takes a key that is free, kept for long enough, or held by a request of the same content that must have died.
_CLAIM = """
    INSERT INTO accounts_keptanswer (organization_id, key, request, content_type, body)
    VALUES (%(organization)s, %(key)s, %(request)s, '', '')
    ON CONFLICT (organization_id, key) DO UPDATE
    SET request = excluded.request, status = NULL, content_type = '', body = '', begun_at = now()
    WHERE accounts_keptanswer.begun_at < now() - make_interval(secs => %(kept_seconds)s)
       OR accounts_keptanswer.status IS NULL AND accounts_keptanswer.request = excluded.request
      AND accounts_keptanswer.begun_at < now() - make_interval(secs => %(lease_seconds)s)
    RETURNING id, begun_at"""

_FORGET = """
    DELETE FROM accounts_keptanswer WHERE id IN (
        SELECT id FROM accounts_keptanswer WHERE begun_at < now() - make_interval(secs => %s)
        ORDER BY begun_at LIMIT %s)"""


def once(
    request: HttpRequest, body: bytes, *, organization: Organization | None, answer: Callable[[], HttpResponse]
) -> HttpResponse:
    """Return `answer()`, or what it was when the same request came before; without the header, just `answer()`.

    `organization` is whose key it is, None for the vendor's. Raises Problem for a key that stands for another request,
    or for one that is at work.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return answer()
    if not 1 <= len(key) <= _LONGEST_KEY or not key.isascii() or not key.isprintable():
        detail = f"{HEADER} is 1 to {_LONGEST_KEY} printable ASCII characters."
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid-idempotency-key", "The idempotency key is not accepted", detail)
    asked = _digest(request, body)
    claim = _claim(organization, key, asked)
    return _kept(organization, key, asked) if claim is None else _answered(claim, answer)


def forget() -> int:
    """Delete answers that were kept for long enough; return how many. Bounded, and safe at once."""
    with connection.cursor() as cursor:
        cursor.execute(_FORGET, [KEPT_SECONDS, _FORGOTTEN_AT_ONCE])
        return int(cursor.rowcount)


def _digest(request: HttpRequest, body: bytes) -> bytes:
    names = {*_ASKING, *(name for name in request.headers if name.title().startswith(_ASKING_PREFIX))}
    asking = sorted((name.title(), request.headers.get(name, "")) for name in names)
    digest = hashlib.sha256(repr((request.method, request.get_full_path(), asking)).encode())
    digest.update(body)
    return digest.digest()


def _claim(organization: Organization | None, key: str, asked: bytes) -> tuple[int, datetime] | None:
    """Take the key for this request and return (id, when); None where somebody has it. Committed at once."""
    values: dict[str, int | str | bytes | None] = {
        "organization": organization.pk if organization else None,
        "key": key,
        "request": asked,
        "kept_seconds": KEPT_SECONDS,
        "lease_seconds": LEASE_SECONDS,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, values)
        row: tuple[int, datetime] | None = cursor.fetchone()
        return row


def _answered(claim: tuple[int, datetime], answer: Callable[[], HttpResponse]) -> HttpResponse:
    """Return the answer and keep it, unless the key was taken over meanwhile; nothing is kept of a failure."""
    mine = KeptAnswer.objects.filter(pk=claim[0], begun_at=claim[1])
    try:
        response = answer()
    except BaseException:
        with contextlib.suppress(DatabaseError):  # Then the key is free when the lease runs out.
            mine.delete()
        raise
    mine.update(
        status=response.status_code, content_type=response.headers.get("Content-Type", ""), body=response.content
    )
    return response


def _kept(organization: Organization | None, key: str, asked: bytes) -> HttpResponse:
    """Return the answer that the key stands for. Raises Problem."""
    kept = KeptAnswer.objects.filter(organization=organization, key=key).first()
    if kept is not None and bytes(kept.request) != asked:
        detail = f"This {HEADER} was sent with another request within the last day. Send a new one with each request."
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency-key-reused", "The key stands for another", detail)
    if kept is None or kept.status is None:
        raise Problem(
            HTTPStatus.CONFLICT,
            "request-at-work",
            "The same request is at work",
            "A request with this key has not been answered yet. Send this again in 1 s to get its answer.",
            headers={"Retry-After": "1"},
        )
    response = HttpResponse(bytes(kept.body), status=kept.status)
    response.headers["Cache-Control"] = "no-store"
    response.headers[REPLAYED] = "true"
    if kept.content_type:
        response.headers["Content-Type"] = kept.content_type
    else:
        del response.headers["Content-Type"]
    return response
