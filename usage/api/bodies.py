"""The body of a request, cut into items that are read each for itself.

Only the frame is read here, so one item's wrong types never spoil the others. Where the text itself is broken nothing
can be told apart behind the fault: the whole request is refused, with the place of the fault, and nothing is recorded.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest

from accounts.problems import Problem
from usage.ingestion import MAX_ITEMS

_TITLE = "The body could not be read"
_AT_BYTE = re.compile(r" \(byte (\d+)\)$")
_ENVELOPE_OPENS = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"calls"[ \t\r\n]*:')
_SPACE = b" \t\r\n"
# Strings are skipped as one token; a string cut off by the end of the text counts as one too.
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\Z)|[\[\]{},]', re.DOTALL)


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    calls: list[msgspec.Raw]


_items_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_envelope_decoder = msgspec.json.Decoder(_Envelope)
_READING_FAILED = (msgspec.MsgspecError, ValueError, RecursionError)


def items_of(request: HttpRequest) -> Sequence[msgspec.Raw]:
    """Return the items of a JSON array, or of `{"calls": [...]}`. Raises Problem."""
    body = _body_of(request)
    if not body.strip(_SPACE):
        raise _unreadable("The body is empty.", position=0)
    _require_json(request)
    items = split(body)
    if len(items) > MAX_ITEMS:
        detail = f"A request holds at most {MAX_ITEMS:,} calls, not {len(items):,}."
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "too-many-items",
            "Too many calls",
            detail,
            items=len(items),
            limit=MAX_ITEMS,
        )
    return items


def split(body: bytes) -> Sequence[msgspec.Raw]:
    """Cut the body into its items. Raises Problem with the position of what is wrong."""
    opening = _ENVELOPE_OPENS.match(body)
    closing = body.rfind(b"}")
    if opening and opening.end() <= closing and not body[closing + 1 :].strip(_SPACE):
        try:
            return _items_decoder.decode(memoryview(body)[opening.end() : closing])
        except _READING_FAILED:
            pass  # Read again as a whole below, which knows the place in the body.
    try:
        if body.lstrip(_SPACE)[:1] != b"{":
            return _items_decoder.decode(body)
        _envelope_decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_shape(error) from None
    except _READING_FAILED as error:
        raise _malformed(body, error) from None
    raise _unreadable('The object holds "calls" exactly once, and nothing else.')


def _body_of(request: HttpRequest) -> bytes:
    """Return the body; one that is larger than Django takes is refused before it is read."""
    try:
        return request.body
    except RequestDataTooBig:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        detail = f"A body holds at most {limit:,} bytes."
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        raise Problem(status, "body-too-large", "The body is too large", detail, limit=limit) from None


def _require_json(request: HttpRequest) -> None:
    if request.content_type != "application/json":
        given = request.content_type or "nothing"
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "The body's type is not supported",
            f"Send the header Content-Type: application/json, not {given}.",
        )


def _wrong_shape(error: msgspec.ValidationError) -> Problem:
    reason = str(error).partition(" - at `$")[0].removesuffix(".")
    return _unreadable(f'{reason}. Send an array of calls, or an object {{"calls": [...]}} and nothing else.')


def _malformed(body: bytes, error: Exception) -> Problem:
    """Name the place of the fault: its byte, and the item in which it stands."""
    if isinstance(error, RecursionError):
        return _unreadable("Values are nested too deeply.")
    reason, position = "The text ends before the JSON does", len(body)
    if found := _AT_BYTE.search(str(error)):
        reason = str(error)[: found.start()]
        # Of what follows the JSON, msgspec names the second byte.
        position = int(found[1]) - reason.endswith("trailing characters")
        reason = f"{reason} at byte {position}"
    reason += "."
    index = _item_at(body, position)
    if index is None:
        return _unreadable(reason, position=position)
    return _unreadable(f"Item {index} cannot be read: {reason}", position=position, index=index)


def _item_at(body: bytes, position: int) -> int | None:
    """Return the index of the item at a byte, by the commas before it; None outside of the array."""
    depth, index = 0, 0
    items_depth = 2 if body.lstrip(_SPACE)[:1] == b"{" else 1
    for found in _TOKENS.finditer(body, 0, position):
        token = found[0]
        if token in (b"[", b"{"):
            depth += 1
        elif token in (b"]", b"}"):
            depth -= 1
        elif token == b"," and depth == items_depth:
            index += 1
    return index if depth >= items_depth else None


def _unreadable(detail: str, **extra: Any) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "unreadable-body", _TITLE, detail, **extra)
