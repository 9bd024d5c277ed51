"""A request's bytes as they were meant: read within the limit, chunked or not, and unpacked within the limit."""

import zlib
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError

from accounts.problems import Problem

_GZIP = frozenset({"gzip", "x-gzip"})
_GZIP_WINDOW = 31
# Each member of a gzip text costs a copy of what follows it; block-wise writers make one for every 64 kB.
_MOST_MEMBERS = 256


class _Broken(ValueError):
    """The bytes are not gzip, or not all of it."""


def body_of(request: HttpRequest) -> bytes:
    """Return the body. Raises Problem for one that is too large, before and after unpacking, or cannot be unpacked."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding in _GZIP:
        try:
            return _unpacked(_received(request))
        except _Broken as error:
            raise unreadable(str(error)) from None
    if encoding not in ("", "identity"):
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported-encoding",
            "The body's encoding is not supported",
            f"Send the body as it is, or with Content-Encoding: gzip, not {encoding}.",
            headers={"Accept-Encoding": "gzip"},
        )
    return _received(request)


def chunks_of(request: HttpRequest, size: int) -> Iterator[bytes]:
    """Yield a body of any length as it came, in chunks. Raises Problem for one that is empty or ends early."""
    is_chunked = _is_chunked(request)
    stream: Any = _terminated(request) if is_chunked else request
    length = 0
    try:
        while chunk := stream.read(size):
            length += len(chunk)
            yield chunk
    except (OSError, UnreadablePostError):
        raise unreadable("The body ends before it is whole.") from None
    if not is_chunked and length < int(request.META.get("CONTENT_LENGTH") or 0):
        raise unreadable("The body ends before the length that was announced.")
    if not length:
        raise unreadable("The body is empty.", position=0)


def _received(request: HttpRequest) -> bytes:
    """Return the bytes that came; one more than the limit are not read."""
    if _is_chunked(request):
        return _received_in_chunks(request)
    try:
        return request.body
    except RequestDataTooBig:
        raise _too_large() from None


def _received_in_chunks(request: HttpRequest) -> bytes:
    body: bytes = _terminated(request).read(_limit() + 1)
    if len(body) > _limit():
        raise _too_large()
    return body


def _is_chunked(request: HttpRequest) -> bool:
    return str(request.META.get("HTTP_TRANSFER_ENCODING", "")).lower() == "chunked"


def _terminated(request: HttpRequest) -> Any:
    """Return the stream of a body of which no length was announced: Django itself takes such a one for empty."""
    if not request.META.get("wsgi.input_terminated"):
        detail = "Send the body's length in the header Content-Length."
        raise Problem(HTTPStatus.LENGTH_REQUIRED, "length-required", "The body's length is missing", detail)
    return request.META["wsgi.input"]


def _unpacked(packed: bytes) -> bytes:
    """Return what was packed. Stops at the limit, so that a small body cannot become a large one. Raises _Broken."""
    parts: list[bytes] = []
    left = _limit()
    for _ in range(_MOST_MEMBERS):
        member = zlib.decompressobj(_GZIP_WINDOW)
        try:
            parts.append(member.decompress(packed, left + 1))
        except zlib.error:
            raise _Broken("The body is not gzip, as the header Content-Encoding says.") from None
        left -= len(parts[-1])
        if left < 0:
            raise _too_large()
        if not member.eof:
            raise _Broken("The gzip text of the body ends too early.")
        packed = member.unused_data
        if not packed:
            return b"".join(parts)
    raise _Broken(f"The gzip text of the body has more than {_MOST_MEMBERS} members.")


def unreadable(detail: str, **extra: Any) -> Problem:
    """Return the problem of a body that cannot be read."""
    return Problem(HTTPStatus.BAD_REQUEST, "unreadable-body", "The body could not be read", detail, **extra)


def _limit() -> int:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    assert limit is not None, "the API needs a limit"
    return limit


def _too_large() -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
        "The body is too large",
        f"A body holds at most {_limit():,} bytes, also once it is unpacked. Send it in parts.",
        limit=_limit(),
    )
