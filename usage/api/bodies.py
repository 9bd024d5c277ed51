"""The body of a request, cut into items that are read each for itself.

Only the frame is read here, so one item's wrong types never spoil the others. Where the text itself is broken nothing
can be told apart behind the fault: the whole request is refused, with the place of the fault, and nothing is recorded.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import TypeVar

import msgspec
from django.http import HttpRequest

from accounts.problems import Problem
from usage.api import encodings
from usage.ingestion import MAX_ITEMS

_AT_BYTE = re.compile(r" \(byte (\d+)\)$")
_SPACE = b" \t\r\n"
# Strings are skipped as one token; a string cut off by the end of the text counts as one too.
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\Z)|[\[\]{},]', re.DOTALL)

_Decoded = TypeVar("_Decoded")
_items_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_READING_FAILED = (msgspec.MsgspecError, ValueError, RecursionError)


def calls_of(request: HttpRequest, body: bytes) -> Sequence[msgspec.Raw]:
    """Return the items of a JSON array, or of `{"calls": [...]}`. Raises Problem."""
    require_type(request, "application/json")
    return limited(split(body, "calls"), "calls")


def limited(items: Sequence[msgspec.Raw], noun: str) -> Sequence[msgspec.Raw]:
    """Return the items unless they are too many. Raises Problem."""
    if len(items) <= MAX_ITEMS:
        return items
    raise Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "too-many-items",
        f"Too many {noun}",
        f"A request holds at most {MAX_ITEMS:,} {noun}, not {len(items):,}.",
        items=len(items),
        limit=MAX_ITEMS,
    )


def split(body: bytes, noun: str) -> Sequence[msgspec.Raw]:
    """Cut an array, or an object that holds one under `noun`, into its items.

    Raises Problem with the position of what is wrong.
    """
    opening = re.match(rb'[ \t\r\n]*\{[ \t\r\n]*"%b"[ \t\r\n]*:' % noun.encode(), body)
    closing = body.rfind(b"}")
    if opening and opening.end() <= closing and not body[closing + 1 :].strip(_SPACE):
        try:
            return _items_decoder.decode(memoryview(body)[opening.end() : closing])
        except _READING_FAILED:
            pass  # Read again as a whole below, which knows the place in the body.
    try:
        if not is_object(body):
            return _items_decoder.decode(body)
        found = _fields_decoder.decode(body)
        if found.keys() == {noun}:
            _items_decoder.decode(found[noun])
    except msgspec.ValidationError as error:
        raise _wrong_shape(error, noun) from None
    except _READING_FAILED as error:
        raise _malformed(body, error) from None
    raise encodings.unreadable(f'The object holds "{noun}" exactly once, and nothing else.')


def items(body: bytes) -> Sequence[msgspec.Raw]:
    """Return the items of an array. Raises Problem with the position of what is wrong."""
    return _decoded(_items_decoder, body)


def fields(body: bytes) -> dict[str, msgspec.Raw]:
    """Return the fields of an object. Raises Problem with the position of what is wrong."""
    return _decoded(_fields_decoder, body)


def is_object(body: bytes) -> bool:
    """Say whether the body opens as an object."""
    return body.lstrip(_SPACE)[:1] == b"{"


def read(request: HttpRequest) -> bytes:
    """Return the body, unpacked. Raises Problem for one that is empty or too large."""
    body = encodings.body_of(request)
    if not body.strip(_SPACE):
        raise encodings.unreadable("The body is empty.", position=0)
    return body


def require_type(request: HttpRequest, *types: str) -> None:
    """Refuse a body that says it is of another type."""
    if request.content_type in types:
        return
    raise Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "The body's type is not supported",
        f"Send the header Content-Type: {' or '.join(types)}, not {request.content_type or 'nothing'}.",
    )


def _decoded(decoder: msgspec.json.Decoder[_Decoded], body: bytes) -> _Decoded:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise encodings.unreadable(f"{str(error).removesuffix('.')}.") from None
    except _READING_FAILED as error:
        raise _malformed(body, error) from None


def _wrong_shape(error: msgspec.ValidationError, noun: str) -> Problem:
    reason = str(error).partition(" - at `$")[0].removesuffix(".")
    return encodings.unreadable(
        f'{reason}. Send an array of {noun}, or an object {{"{noun}": [...]}} and nothing else.'
    )


def _malformed(body: bytes, error: Exception) -> Problem:
    """Name the place of the fault: its byte, and the item in which it stands."""
    if isinstance(error, RecursionError):
        return encodings.unreadable("Values are nested too deeply.")
    reason, position = "The text ends before the JSON does", len(body)
    if found := _AT_BYTE.search(str(error)):
        reason = str(error)[: found.start()]
        # Of what follows the JSON, msgspec names the second byte.
        position = int(found[1]) - reason.endswith("trailing characters")
        reason = f"{reason} at byte {position}"
    reason += "."
    index = _item_at(body, position)
    if index is None:
        return encodings.unreadable(reason, position=position)
    return encodings.unreadable(f"Item {index} cannot be read: {reason}", position=position, index=index)


def _item_at(body: bytes, position: int) -> int | None:
    """Return the index of the item at a byte, by the commas before it; None outside of the array."""
    depth, index = 0, 0
    items_depth = 2 if is_object(body) else 1
    for found in _TOKENS.finditer(body, 0, position):
        token = found[0]
        if token in (b"[", b"{"):
            depth += 1
        elif token in (b"]", b"}"):
            depth -= 1
        elif token == b"," and depth == items_depth:
            index += 1
    return index if depth >= items_depth else None
