"""Corrections: a known call gets a further revision, which is priced, and charged for what it costs more.

A revision is a row of its own, so nothing that was charged, reported or invoiced changes. What it costs less is
remembered with it; the ledger gives that back when it settles the revision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from usage import deltas, pricing, revisions, storage
from usage.call_objects import CallObject
from usage.deltas import Delta
from usage.models import Call, CallRevision
from usage.prices import Catalog
from usage.pricing import Payer
from usage.rating import AmountOutOfRange, ProductsUnpriced, Rating, rate
from usage.revisions import Current
from usage.snapshots import Snapshot
from usage.storage import NewCall

Origin = CallRevision.Origin
RECORDED, DUPLICATE, CONFLICT, REJECTED = "recorded", "duplicate", "conflict", "rejected"


@dataclass(frozen=True, slots=True)
class Correction:
    """A call as it should have been, and the revision that it replaces. `index` is its place in the batch.

    `pinned` is the price version that a backfill chose, which later corrections keep where it has their products.
    """

    index: int
    payer: Payer
    call: CallObject
    replaces: int
    reason: str
    origin: Origin
    author_id: int | None = None
    pinned: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a correction; `revision` is the one that was made, or, of a conflict, the newest there is."""

    status: str
    revision: int | None = None
    rated: bool | None = None
    field: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A correction that will be stored: its price in full, if there is one, and what that changes."""

    asked: Correction
    current: Current
    snapshot: Snapshot | None
    rating: Rating | None
    delta: Delta | None
    missing: list[str]

    @property
    def new_call(self) -> NewCall:
        charged = as_charged(self.rating, self.delta) if self.rating and self.delta else None
        revision = self.current.revision + 1
        asked = self.asked
        return NewCall(asked.index, asked.payer.id, asked.call, self.snapshot, charged, self.missing, revision)


def record(asked: Sequence[Correction], *, catalog: Catalog, now: datetime) -> dict[int, Outcome]:
    """Record corrections in their order, and return what became of each, by index. In the caller's transaction.

    The same correction again is a duplicate; one of another revision than the newest is a conflict, and changes
    nothing. Corrections of one call in a batch follow each other.
    """
    outcomes: dict[int, Outcome] = {}
    waiting = list(asked)
    while waiting:
        # One correction of a call at a time: the next one of the same call is held against what this one makes.
        first = {(each.payer.id, each.call.call_id): each for each in reversed(waiting)}
        taken = {each.index for each in first.values()}
        outcomes |= _record_each_once([each for each in waiting if each.index in taken], catalog, now)
        waiting = [each for each in waiting if each.index not in taken]
    return outcomes


def as_charged(rating: Rating, delta: Delta) -> Rating:
    """Return a rating of what is charged of a price, which is what settlement sums up."""
    return Rating(rating.rates, rating.quantities, delta.line_micros, delta.charged_micros)


def change(before: dict[str, int], rating: Rating) -> Delta:
    """Return what a new price changes from what a call cost before, by component."""
    return deltas.between(before, [rate.component for rate in rating.rates], rating.line_micros)


def price_late(call: Call, rating: Rating) -> Rating:
    """Note what a stored revision costs that waited for its price, and return what is charged of it."""
    revision = CallRevision.objects.get(organization_id=call.organization_id, id=call.id)
    delta = change(revision.before_micros, rating)
    CallRevision.objects.filter(organization_id=call.organization_id, id=call.id).update(
        line_micros=list(rating.line_micros),
        given_back=delta.given_back,
        given_back_micros=delta.given_back_micros,
    )
    return as_charged(rating, delta)


def _record_each_once(asked: list[Correction], catalog: Catalog, now: datetime) -> dict[int, Outcome]:
    known = revisions.lock({(each.payer.id, each.call.call_id) for each in asked})
    outcomes: dict[int, Outcome] = {}
    accepted: dict[int, _Accepted] = {}
    for each in asked:
        current = known.get((each.payer.id, each.call.call_id))
        answered = _answered(each, current)
        if answered is None and current is not None:
            try:
                accepted[each.index] = _priced(each, current, catalog, now)
            except AmountOutOfRange:
                answered = Outcome(REJECTED, reason="The call costs more than an account can hold.")
        if answered is not None:
            outcomes[each.index] = answered
    if accepted:
        _store(accepted, now)
    for index, made in accepted.items():
        outcomes[index] = Outcome(RECORDED, made.current.revision + 1, rated=made.rating is not None)
    return outcomes


def _answered(asked: Correction, current: Current | None) -> Outcome | None:
    """Return what a correction is that changes nothing; None for one that does."""
    if current is None:
        reason = "There is no call under this id to correct, or it is in the archive. Send it without `correction`."
        return Outcome(REJECTED, field="call_id", reason=reason)
    newest, replaced = current.revision, asked.replaces
    if replaced < newest and current.digests[replaced + 1] == asked.call.digest:
        return Outcome(DUPLICATE, replaced + 1)
    if replaced != newest:
        reason = f"Revision {newest} is the newest, not {replaced}: read the call again, and correct that one."
        return Outcome(CONFLICT, newest, field="revision", reason=reason)
    if current.digests[newest] == asked.call.digest and asked.origin == Origin.API:
        return Outcome(DUPLICATE, newest)
    return None


def _priced(asked: Correction, current: Current, catalog: Catalog, now: datetime) -> _Accepted:
    """Price a correction: by the version that a backfill chose, else as any call. Raises AmountOutOfRange."""
    pinned = asked.pinned or (catalog.versions[current.pinned_version_id] if current.pinned_version_id else None)
    snapshot, rating, missing = price(asked, pinned, catalog, now)
    delta = change(current.before, rating) if rating else None
    return _Accepted(asked, current, snapshot, rating, delta, missing)


def price(
    asked: Correction, pinned: Snapshot | None, catalog: Catalog, now: datetime
) -> tuple[Snapshot | None, Rating | None, list[str]]:
    """Return the version that prices a correction and its price in full, or the products that lack one."""
    call = asked.call
    if pinned is not None:
        try:
            return pinned, rate(call.facts, pinned), []
        except ProductsUnpriced:
            pass  # then as any call
    return pricing.price(catalog, asked.payer, call.facts, call.started_at, now)


def _store(accepted: dict[int, _Accepted], now: datetime) -> None:
    revisions.give_up_prices(each.current for each in accepted.values())
    stored = storage.store([each.new_call for each in accepted.values()], now=now)
    CallRevision.objects.bulk_create(_row(number, accepted[new.index], now) for number, new in stored)


def _row(number: int, made: _Accepted, now: datetime) -> CallRevision:
    asked, current, delta = made.asked, made.current, made.delta
    pinned_version_id = asked.pinned.version_id if asked.pinned else current.pinned_version_id
    return CallRevision(
        organization_id=asked.payer.id,
        key=current.key,
        revision=current.revision + 1,
        id=number,
        started_at=asked.call.started_at,
        previous_id=current.id,
        replaces_id=current.replaces_id,
        replaces_at=current.replaces_at,
        replaces_zone=current.replaces_zone,
        digest=UUID(bytes=asked.call.digest),
        origin=asked.origin,
        author_id=asked.author_id,
        reason=asked.reason,
        recorded_at=now,
        pinned_version_id=pinned_version_id,
        before_micros=current.before,
        line_micros=list(made.rating.line_micros) if made.rating else None,
        given_back=delta.given_back if delta else {},
        given_back_micros=delta.given_back_micros if delta else 0,
    )
