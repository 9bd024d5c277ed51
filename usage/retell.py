"""Retell's webhooks: which calls they tell of, and when such a call is complete.

A call is billed by what it was when it was complete. `call_ended` lacks what the analysis adds, and that costs money
(`post_call_analysis_…`); `call_analyzed` has it, and follows for every call. So an ended call is held until its
analysis comes, and recorded as it is when none has come within the grace time. Storing is all that a request does; a
worker records, in batches, as the API would. Source: docs.retellai.com/features/webhook-overview.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from accounts.models import Organization
from usage import calls, ingestion, json_faults
from usage.call_objects import MAX_ITEM_BYTES
from usage.models import HeldCall

log = structlog.get_logger(__name__)

ENDED, ANALYZED = "call_ended", "call_analyzed"
BATCH = 100
ATTEMPTS = 5
_RETRY_AFTER = timedelta(minutes=5)
# Of a call that is too large to be kept, free fields that are longer than this are left out: transcripts, most likely.
_LONGEST_FIELD = 32 * 1024
_REFERENCE = re.compile(r"[-\w]{1,64}", re.ASCII)


class Malformed(ValueError):
    """The body is no event of a call; nothing can be made of it."""


class _Call(msgspec.Struct, frozen=True):
    call_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=r"^[^\x00]+$")]
    metadata: msgspec.Raw = msgspec.Raw(b"null")


class _Event(msgspec.Struct, frozen=True):
    event: str
    call: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Metadata(msgspec.Struct, frozen=True):
    organization: str = ""


_event_decoder = msgspec.json.Decoder(_Event)
_call_decoder = msgspec.json.Decoder(_Call)
_metadata_decoder = msgspec.json.Decoder(_Metadata)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()

# A call that was analyzed stays so, whichever event comes later or again. One that was refused gets another chance.
_HOLD = """
    INSERT INTO usage_heldcall
        (organization, call_id, is_analyzed, body, state, field, reason, attempts, received_at, due_at)
    VALUES (%(organization)s, %(call_id)s, %(is_analyzed)s, %(body)s, 'waiting', '', '', 0, %(now)s, %(due_at)s)
    ON CONFLICT (organization, call_id) DO UPDATE
    SET is_analyzed = excluded.is_analyzed, body = excluded.body, state = 'waiting', field = '', reason = '',
        attempts = 0, due_at = excluded.due_at
    WHERE excluded.is_analyzed
    RETURNING id"""


def hold(body: bytes, *, now: datetime, organization: str = "") -> bool:
    """Store the call that an event tells of; False for an event that tells of none to be recorded.

    `organization` is the reference of the organization it belongs to; without one, the call's metadata may name it.
    One statement, safe twice. Raises Malformed.
    """
    event, raw, call = _read(body)
    if event not in (ENDED, ANALYZED):
        return False
    organization = organization or _named_in(call.metadata)
    is_analyzed = event == ANALYZED
    if not is_analyzed and _is_recorded(organization, call.call_id):
        return False
    values: dict[str, bool | bytes | str | datetime] = {
        "organization": organization,
        "call_id": call.call_id,
        "is_analyzed": is_analyzed,
        "body": raw,
        "now": now,
        "due_at": now if is_analyzed else now + timedelta(seconds=settings.RETELL_ANALYSIS_GRACE_SECONDS),
    }
    with connection.cursor() as cursor:
        cursor.execute(_HOLD, values)
        return cursor.fetchone() is not None


def record_due(*, now: datetime, limit: int = BATCH) -> int:
    """Record up to `limit` calls that are complete or whose time is up; return how many rows that was.

    Safe at once: each row is taken by one worker. A batch that fails is tried call by call, so that one that cannot be
    recorded keeps no other waiting (F24).
    """
    try:
        with transaction.atomic():
            held = list(_due(now)[:limit])
            _record(held, now)
            return len(held)
    except Exception:
        log.exception("held calls not recorded, trying each")
    ids = list(_due(now).values_list("id", flat=True)[:limit])
    for held_id in ids:
        _record_alone(held_id, now)
    return len(ids)


def try_again(held: QuerySet[HeldCall], *, now: datetime) -> int:
    """Let refused calls wait once more, because what refused them was put right; return how many they are."""
    refused = held.filter(state=HeldCall.State.REFUSED)
    return refused.update(state=HeldCall.State.WAITING, field="", reason="", attempts=0, due_at=now)


def _due(now: datetime) -> QuerySet[HeldCall]:
    waiting = HeldCall.objects.filter(state=HeldCall.State.WAITING, due_at__lte=now)
    return waiting.select_for_update(skip_locked=True).order_by("due_at", "id")


def _record(held: Sequence[HeldCall], now: datetime) -> None:
    """Record calls whose rows are locked; rows of recorded ones go, the others say why they stay."""
    answers = ingestion.record([_item(each) for each in held], now=now)
    done = []
    for each, answer in zip(held, answers, strict=True):
        if answer.reason is None:
            done.append(each.pk)
        else:
            _refuse(each, answer.field or "", answer.reason)
    HeldCall.objects.filter(pk__in=done).delete()


def _record_alone(held_id: int, now: datetime) -> None:
    """Record one call; if it fails, try again later, and give up after some attempts."""
    try:
        with transaction.atomic():
            _record(list(_due(now).filter(pk=held_id)), now)
    except Exception:
        log.exception("held call not recorded", held_call_id=held_id)
        held = HeldCall.objects.get(pk=held_id)
        held.attempts += 1
        held.due_at = now + _RETRY_AFTER
        held.save(update_fields=["attempts", "due_at"])
        if held.attempts >= ATTEMPTS:
            _refuse(held, "", f"Recording it failed {ATTEMPTS} times. The log has the error.")


def _refuse(held: HeldCall, field: str, reason: str) -> None:
    held.state, held.field, held.reason = HeldCall.State.REFUSED, field[:200], reason[:500]
    held.save(update_fields=["state", "field", "reason"])
    log.warning("held call refused", held_call_id=held.pk, field=held.field)


def _read(body: bytes) -> tuple[str, bytes, _Call]:
    """Return the event's name, and the call both as it came and as far as it is read here. Raises Malformed."""
    try:
        event = _event_decoder.decode(body)
        if event.event not in (ENDED, ANALYZED):
            return event.event, b"", _Call("")
        if event.call is msgspec.UNSET:
            raise Malformed("The event has no call.")
        return event.event, bytes(event.call), _call_decoder.decode(event.call)
    except msgspec.ValidationError as error:
        field, reason = json_faults.of(error)
        raise Malformed(f"{field}: {reason}" if field else reason) from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed(f"The body is not readable JSON: {error}.") from None


def _named_in(metadata: msgspec.Raw) -> str:
    """Return the organization that the call's metadata names; nothing where they name none that could exist."""
    try:
        named = _metadata_decoder.decode(metadata).organization
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    return named if _REFERENCE.fullmatch(named) else ""


def _is_recorded(organization: str, call_id: str) -> bool:
    found = Organization.objects.filter(reference=organization).values_list("id", flat=True).first()
    return found is not None and calls.find(found, call_id) is not None


def _item(held: HeldCall) -> bytes:
    """Return the call as an item for the recorder; the organization that it is held for stands last, and so counts."""
    raw = bytes(held.body)
    if len(raw) > MAX_ITEM_BYTES:
        fields = _fields_decoder.decode(raw)
        raw = _encoder.encode({name: value for name, value in fields.items() if len(bytes(value)) <= _LONGEST_FIELD})
    if not held.organization:
        return raw
    return raw[:-1] + b"," + _encoder.encode({"organization": held.organization})[1:]
