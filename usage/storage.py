"""Calls and what they cost on their way into PostgreSQL, a batch at a time.

First their keys, which say which calls are new; then, by binary COPY, the calls under consecutive ids, and the ranges
of those ids that wait for settlement.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from struct import Struct
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db import IntegrityError, connection, transaction

from usage import copying, dimensions, inserting, partitions
from usage.call_objects import CallObject
from usage.dimensions import AgentKey, KindKey, MixKey
from usage.rating import Rating
from usage.snapshots import Snapshot

MAX_BATCH = 10_000  # the increment of the sequence of ids
# So many calls or fewer are stored by a statement each for keys and all else, more of them by a COPY to each table.
_FEW = 50
_LONGEST_PAUSE = timedelta(minutes=15)


class NewCall(msgspec.Struct, frozen=True, gc=False):
    """A call to be stored: with its price, or with the products that lack one. `index` is its place in the batch.

    Of a later `revision` the rating is what it costs more than was charged before.
    """

    index: int
    organization_id: int
    call: CallObject
    snapshot: Snapshot | None
    rating: Rating | None
    missing: list[str]
    revision: int = 1


@dataclass(frozen=True, slots=True)
class RatedCall:
    """A stored call to be charged, which was noticed without a price at `noticed_at`."""

    id: int
    organization_id: int
    started_at: datetime
    noticed_at: datetime
    products: tuple[str, ...]
    snapshot: Snapshot
    rating: Rating


class _Numbered(NamedTuple):
    """A call's place in the order of ids, and what a range adds up."""

    organization_id: int
    id: int
    started_at: datetime
    micros: int
    received_at: datetime


def key_of(call_id: str) -> UUID:
    """Return the key of a vendor's call id: the first half of its SHA-256."""
    return UUID(bytes=_key_of(call_id))


def _key_of(call_id: str) -> bytes:
    return hashlib.sha256(call_id.encode()).digest()[:16]


def insert(calls: Sequence[NewCall], *, now: datetime) -> set[int]:
    """Store those calls whose id is not known yet, with details and charges; return their indexes.

    At most `MAX_BATCH` calls with ids that differ, in the caller's transaction.
    """
    fresh = _insert_keys(calls)
    new = [call for call in calls if call.index in fresh]
    if new:
        store(new, now=now)
    return fresh


def store(new: list[NewCall], *, now: datetime) -> list[tuple[int, NewCall]]:
    """Store calls whose keys are there: details, charges, ranges; return them with their ids, in another order."""
    partitions.ensure({partitions.month_of(each.call.started_at) for each in new})
    # What has no price comes last, so that the ids of what waits for settlement follow one another.
    new.sort(key=lambda each: (each.rating is None, each.organization_id, each.call.started_at))
    first_id = _reserve_ids()
    numbered = list(zip(itertools.count(first_id), new))
    priced = [
        _Numbered(each.organization_id, number, each.call.started_at, each.rating.amount_micros, now)
        for number, each in numbered
        if each.rating is not None
    ]
    if len(new) <= _FEW:
        _insert_rows(numbered, priced)
    else:
        _copy_calls(numbered)
        _copy_details(numbered)
        _copy_ranges(priced)
    unrated = [(number, each) for number, each in numbered if each.rating is None]
    if unrated:
        _insert_unrated(unrated, now)
    return numbered


def charge(calls: Sequence[RatedCall]) -> None:
    """Price stored calls that waited for it, which thereby wait no longer, and hand them to settlement."""
    if not calls:
        return
    keys = {MixKey(call.snapshot.version_id, call.products): call.snapshot for call in calls}
    mixes = dimensions.mixes(dict(keys))
    with connection.cursor() as cursor:
        for call in calls:
            mix = mixes[MixKey(call.snapshot.version_id, call.products)]
            amounts: list[Any] = [mix, call.rating.amount_micros, list(call.rating.line_micros)]
            cursor.execute(_PRICE, [*amounts, call.organization_id, call.started_at, call.id])
        cursor.execute(
            "DELETE FROM usage_unratedcall USING unnest(%s::bigint[], %s::bigint[]) AS rated (o, i)"
            " WHERE (organization_id, id) = (o, i)",
            [[call.organization_id for call in calls], [call.id for call in calls]],
        )
    ordered = sorted(calls, key=lambda call: (call.organization_id, call.id))
    _copy_ranges(
        [
            _Numbered(call.organization_id, call.id, call.started_at, call.rating.amount_micros, call.noticed_at)
            for call in ordered
        ]
    )


def digests(calls: Sequence[NewCall]) -> dict[tuple[int, str], bytes]:
    """Return the digests that are known of the calls' ids."""
    ids = {(call.organization_id, key_of(call.call.call_id)): call.call.call_id for call in calls}
    with connection.cursor() as cursor:
        cursor.execute(_DIGESTS, [[o for o, _ in ids], [key for _, key in ids]])
        return {(o, ids[o, key]): digest.bytes for o, key, digest in cursor.fetchall()}


def unfit(calls: Sequence[NewCall]) -> set[int]:
    """Return the indexes of calls whose free fields PostgreSQL cannot hold, such as a number of 20,000 digits."""
    indexes = [call.index for call in calls]
    metadata = [bytes(call.call.metadata).decode() for call in calls]
    extra = [bytes(call.call.extra).decode() for call in calls]
    with connection.cursor() as cursor:
        cursor.execute(_UNFIT, (indexes, metadata, extra))
        return {index for (index,) in cursor.fetchall()}


# Keys are inserted in order, so that two transactions with the same calls wait for each other and never in a circle.
_INSERT_KEYS = """
    INSERT INTO usage_callkey (organization_id, key, digest, started_at)
    SELECT * FROM unnest(%s::bigint[], %s::uuid[], %s::uuid[], %s::timestamptz[])
    ON CONFLICT DO NOTHING RETURNING organization_id, key"""

_DIGESTS = """
    SELECT organization_id, key, digest FROM usage_callkey
    JOIN unnest(%s::bigint[], %s::uuid[]) AS asked (o, k) ON (organization_id, key) = (o, k)"""

_UNFIT = """
    SELECT i FROM unnest(%s::int[], %s::text[], %s::text[]) AS item (i, m, x)
    WHERE NOT (pg_input_is_valid(m, 'jsonb') AND pg_input_is_valid(x, 'jsonb'))"""

_PRICE = """
    UPDATE usage_call SET mix_id = %s, amount_micros = %s, line_micros = %s
    WHERE organization_id = %s AND started_at = %s AND id = %s AND amount_micros IS NULL"""

_INSERT_UNRATED = """
    INSERT INTO usage_unratedcall (organization_id, id, started_at, call_id, missing, noticed_at)
    SELECT o, i, s, c, m::varchar[], n FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[], %s::text[],
                                                   %s::text[], %s::timestamptz[]) AS unrated (o, i, s, c, m, n)"""


def _insert_keys(calls: Sequence[NewCall]) -> set[int]:
    """Store the keys of calls whose id is new, and return their indexes.

    All at once by COPY, which an id that is known stops; only then by the statement that leaves out what is known.
    """
    by_key = {(call.organization_id, _key_of(call.call.call_id)): call for call in calls}
    ordered = sorted(by_key)
    if len(ordered) <= _FEW:
        return _insert_unknown_keys(by_key, ordered)
    try:
        with transaction.atomic():
            rows = (_key_row(*key, by_key[key].call) for key in ordered)
            copying.copy("usage_callkey", "organization_id, key, digest, started_at", rows)
    except IntegrityError:
        return _insert_unknown_keys(by_key, ordered)
    return {call.index for call in calls}


def _insert_unknown_keys(by_key: dict[tuple[int, bytes], NewCall], ordered: Sequence[tuple[int, bytes]]) -> set[int]:
    columns: list[list[Any]] = [
        [organization_id for organization_id, _ in ordered],
        [UUID(bytes=key) for _, key in ordered],
        [UUID(bytes=by_key[key].call.digest) for key in ordered],
        [by_key[key].call.started_at for key in ordered],
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_KEYS, columns)
        return {by_key[o, key.bytes].index for o, key in cursor.fetchall()}


def _key_row(organization_id: int, key: bytes, call: CallObject) -> bytes:
    started_at = copying.instant(call.started_at)
    return _CALL_KEY.pack(4, 8, organization_id, 16, key, 16, call.digest, 8, started_at)


def _reserve_ids() -> int:
    """Return the first of `MAX_BATCH` ids that nobody else gets."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('usage_call_id')")
        first_id: int = cursor.fetchone()[0]
        return first_id


_CALL_COLUMNS = (
    "organization_id, id, started_at, duration_ms, llm_tokens, llm_requests, mix_id, kind_id, agent_id, revision,"
    " ended_at, amount_micros, call_id, line_micros"
)
_RANGE_COLUMNS = "organization_id, first_id, last_id, starts_at, ends_at, micros, received_at, time_zone"
_CALL = Struct("!h" + "iq" * 4 + "ii" * 5 + "ih")
_INT8 = Struct("!iq")
_KEY = Struct("!hiqiqiq")
_CALL_KEY = Struct("!hiqi16si16siq")
_RANGE = Struct("!h" + "iq" * 7 + "i")


def _insert_rows(numbered: Sequence[tuple[int, NewCall]], priced: Sequence[_Numbered]) -> None:
    """Store a few calls, their details and ranges, in one statement."""
    rows = [
        {
            **_place_of(number, new),
            "ended_at": new.call.ended_at,
            "duration_ms": new.call.facts.duration_ms,
            "amount_micros": new.rating.amount_micros if new.rating else None,
            "llm_tokens": new.call.facts.llm_tokens,
            "llm_requests": new.call.facts.llm_requests,
            "mix_id": mix,
            "kind_id": kind,
            "agent_id": agent,
            "revision": new.revision,
            "call_id": new.call.call_id,
            "line_micros": new.rating.line_micros if new.rating else (),
        }
        for (number, new), mix, kind, agent in _with_dimensions(numbered)
    ]
    details = [
        {
            **_place_of(number, new),
            "from_number": new.call.from_number,
            "to_number": new.call.to_number,
            "metadata": new.call.metadata,
            "extra": new.call.extra,
        }
        for number, new in numbered
        if new.call.has_detail
    ]
    ranges = [
        {
            "organization_id": run[0].organization_id,
            "first_id": run[0].id,
            "last_id": run[-1].id,
            "starts_at": run[0].started_at,
            "ends_at": run[-1].started_at,
            "micros": sum([call.micros for call in run]),
            "received_at": run[0].received_at,
            "time_zone": "",
        }
        for run in _runs(priced)
    ]
    inserting.insert({"usage_call": rows, "usage_calldetail": details, "usage_callrange": ranges})


def _place_of(number: int, new: NewCall) -> dict[str, Any]:
    return {"organization_id": new.organization_id, "id": number, "started_at": new.call.started_at}


def _with_dimensions(
    numbered: Sequence[tuple[int, NewCall]],
) -> Iterator[tuple[tuple[int, NewCall], int, int, int]]:
    """Yield each call with the numbers of its mix, kind and agent."""
    kind_keys = [_kind(each.call) for _, each in numbered]
    agent_keys = [_agent(each) for _, each in numbered]
    mix_keys = [_mix(each) for _, each in numbered]
    kinds = dimensions.kinds(set(kind_keys))
    agents = dimensions.agents(set(agent_keys))
    mixes = dimensions.mixes({key: each.snapshot for key, (_, each) in zip(mix_keys, numbered, strict=True)})
    for call, mix, kind, agent in zip(numbered, mix_keys, kind_keys, agent_keys, strict=True):
        yield call, mixes[mix], kinds[kind], agents[agent]


def _copy_calls(numbered: Sequence[tuple[int, NewCall]]) -> None:
    rows = (_call_row(*call, mix, kind, agent) for call, mix, kind, agent in _with_dimensions(numbered))
    copying.copy("usage_call", _CALL_COLUMNS, rows)


def _call_row(number: int, new: NewCall, mix: int, kind: int, agent: int) -> bytes:
    call, rating = new.call, new.rating
    facts = call.facts
    # Each field follows its length in bytes.
    fixed = _CALL.pack(
        14,
        *(8, new.organization_id),
        *(8, number),
        *(8, copying.instant(call.started_at)),
        *(8, facts.duration_ms),
        *(4, facts.llm_tokens),
        *(4, facts.llm_requests),
        *(4, mix),
        *(4, kind),
        *(4, agent),
        *(2, new.revision),
    )
    ended_at = _INT8.pack(8, copying.instant(call.ended_at)) if call.ended_at else copying.NULL
    if rating is None:
        return b"".join((fixed, ended_at, copying.NULL, copying.text(call.call_id), copying.EMPTY_ARRAY))
    amount = _INT8.pack(8, rating.amount_micros)
    lines = copying.int8_array(rating.line_micros)
    return b"".join((fixed, ended_at, amount, copying.text(call.call_id), lines))


def _copy_details(numbered: Sequence[tuple[int, NewCall]]) -> None:
    rows = [_detail_row(number, each) for number, each in numbered if each.call.has_detail]
    if rows:
        columns = "organization_id, id, started_at, from_number, to_number, metadata, extra"
        copying.copy("usage_calldetail", columns, rows)


def _detail_row(number: int, new: NewCall) -> bytes:
    call = new.call
    return b"".join(
        (
            _KEY.pack(7, *(8, new.organization_id), *(8, number), *(8, copying.instant(call.started_at))),
            copying.text(call.from_number),
            copying.text(call.to_number),
            copying.json(call.metadata),
            copying.json(call.extra),
        )
    )


def _insert_unrated(unrated: Sequence[tuple[int, NewCall]], now: datetime) -> None:
    columns: list[list[Any]] = [
        [each.organization_id for _, each in unrated],
        [number for number, _ in unrated],
        [each.call.started_at for _, each in unrated],
        [each.call.call_id for _, each in unrated],
        [dimensions.array(each.missing) for _, each in unrated],
        [now] * len(unrated),
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_UNRATED, columns)


def _copy_ranges(numbered: Sequence[_Numbered]) -> None:
    """Store the ranges of calls that stand in the order of organization and id."""
    rows = [_range_row(calls) for calls in _runs(numbered)]
    if rows:
        copying.copy("usage_callrange", _RANGE_COLUMNS, rows)


def _range_row(calls: Sequence[_Numbered]) -> bytes:
    first, last = calls[0], calls[-1]
    return _RANGE.pack(
        8,
        *(8, first.organization_id),
        *(8, first.id),
        *(8, last.id),
        *(8, copying.instant(first.started_at)),
        *(8, copying.instant(last.started_at)),
        *(8, sum([call.micros for call in calls])),
        *(8, copying.instant(first.received_at)),
        0,  # no time zone yet
    )


def _runs(numbered: Sequence[_Numbered]) -> Iterator[list[_Numbered]]:
    """Cut into runs of one organization and of consecutive ids, without a long pause between two calls."""
    run: list[_Numbered] = []
    for call in numbered:
        if run and not _follows(run[-1], call):
            yield run
            run = []
        run.append(call)
    if run:
        yield run


def _follows(before: _Numbered, call: _Numbered) -> bool:
    return (
        call.organization_id == before.organization_id
        and call.id == before.id + 1
        and before.id % MAX_BATCH != 0  # ids of two blocks, which `rollups` takes for two ranges
        and call.received_at == before.received_at
        and timedelta(0) <= call.started_at - before.started_at <= _LONGEST_PAUSE
    )


def _kind(call: CallObject) -> KindKey:
    return KindKey(call.call_type, call.direction, call.status, call.disconnection_reason)


def _agent(new: NewCall) -> AgentKey:
    return AgentKey(new.organization_id, new.call.agent_id, new.call.agent_name)


def _mix(new: NewCall) -> MixKey:
    return MixKey(new.snapshot.version_id if new.snapshot else 0, new.call.facts.products)
