"""Recording calls: each once, rated in the same transaction, every item answered for itself."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
import structlog
from django.db import DataError, connection, transaction

from accounts.models import Organization
from usage import batches, call_objects, completeness, corrections, intake_log, prices, revisions, signals, storage
from usage.call_objects import CallObject, CallRejected, Peeked
from usage.completeness import Arrival
from usage.corrections import Correction, Origin, Outcome
from usage.intake_log import Rejected, Repeated
from usage.models import Call, UnratedCall
from usage.prices import Catalog
from usage.pricing import Payer, price
from usage.rating import AmountOutOfRange, CallFacts
from usage.storage import NewCall

MAX_ITEMS = 5_000

log = structlog.get_logger(__name__)

RECORDED, DUPLICATE = corrections.RECORDED, corrections.DUPLICATE
CONFLICT, REJECTED = corrections.CONFLICT, corrections.REJECTED


_KNOWN = frozenset({RECORDED, DUPLICATE})


class Answer(msgspec.Struct, gc=False):
    """What became of the item at `index`: recorded, duplicate, conflict or rejected.

    A conflict or a rejection has a reason, and a field if it is about one. `rated` says whether a recorded call has a
    price already. Of a correction, `revision` is the one that was made, or, of a conflict, the newest there is.
    """

    index: int
    call_id: str | None
    status: str
    field: str | None = None
    reason: str | None = None
    rated: bool | None = None
    revision: int | None = None


class TooManyItems(ValueError):
    """A batch holds at most `MAX_ITEMS` items."""


def record(
    items: Sequence[bytes | msgspec.Raw],
    *,
    now: datetime,
    scope: Organization | None = None,
    api_key_id: int | None = None,
) -> list[Answer]:
    """Record up to `MAX_ITEMS` call objects and return an answer for each, in their order.

    Every item stands for itself: a wrong one is answered as such and keeps no other from being recorded. A known id
    with the same content is a duplicate, with other content a conflict; neither changes anything. Corrections are held
    against what is recorded once the others are. With `scope`, items need not name an organization and may name no
    other. `api_key_id` says whose they are, for the log. Raises TooManyItems.

    One transaction; `signals.calls_recorded` follows its commit. Safe to run at once with the same items.
    """
    if len(items) > MAX_ITEMS:
        raise TooManyItems(f"A batch holds at most {MAX_ITEMS:,} calls, not {len(items):,}.")
    digest = batches.digest_of(items, scope)
    if batches.is_known(digest) and (answers := _repeated(items, now=now, scope=scope, api_key_id=api_key_id)):
        return answers
    batch = _Batch(now=now, answers=[Answer(index, None, REJECTED) for index in range(len(items))])
    read = list(batch.read(items))
    with transaction.atomic():
        named = batch.with_payers(read, scope)
        catalog = prices.current()
        new = list(batch.rated(named, catalog))
        recorded = _insert(batch, new)
        batch.answer_known([call for call in [*new, *batch.repeats] if call.index not in recorded])
        changed = _correct(batch, catalog, api_key_id) if batch.corrected else set()
        batch.note(api_key_id)
        if not batch.corrected and all(answer.status in _KNOWN for answer in batch.answers):
            batches.remember(digest, now=now)
        organization_ids = sorted({call.organization_id for call in new if call.index in recorded} | changed)
        if organization_ids:
            transaction.on_commit(lambda: announce(organization_ids))
    return batch.answers


def _repeated(
    items: Sequence[bytes | msgspec.Raw], *, now: datetime, scope: Organization | None, api_key_id: int | None
) -> list[Answer]:
    """Answer the calls of a batch that is known, as reading them again would; not if a name is not what it was."""
    named = list(batches.names(items))
    own = scope.reference if scope else ""
    payers = _payers({organization for _, organization in named if organization}, scope)
    if any((organization or own) not in payers for _, organization in named):
        return []
    repeated = (Repeated(payers[organization or own].id, call_id, is_conflict=False) for call_id, organization in named)
    intake_log.note([], repeated, now=now, api_key_id=api_key_id)
    return [Answer(index, call_id, DUPLICATE) for index, (call_id, _) in enumerate(named)]


def rate_unrated(*, now: datetime, limit: int = 1000) -> int:
    """Rate up to `limit` waiting calls whose price has arrived; return how many that were. Safe twice and at once."""
    with transaction.atomic():
        catalog = prices.current()
        priced = []
        for unrated, call in _unrated():
            products = tuple(call.mix.products)
            facts = CallFacts(call.duration_ms, products, call.llm_tokens, call.llm_requests)
            payer = Payer(call.organization_id, call.organization.currency)
            try:
                snapshot, rating, _ = price(catalog, payer, facts, call.started_at, now)
            except AmountOutOfRange:
                # It stays on the staff's list; one such call must not keep the others waiting.
                log.error("waiting call costs more than an account can hold", call=call.pk)
                continue
            if snapshot and rating:
                if call.revision > 1:
                    rating = corrections.price_late(call, rating)
                rated = storage.RatedCall(
                    call.pk, payer.id, call.started_at, unrated.noticed_at, products, snapshot, rating
                )
                priced.append(rated)
            if len(priced) >= limit:
                break
        storage.charge(priced)
        organization_ids = sorted({call.organization_id for call in priced})
        if organization_ids:
            transaction.on_commit(lambda: announce(organization_ids))
    if priced:
        log.info("waiting calls rated", calls=len(priced))
    return len(priced)


def _unrated() -> Iterator[tuple[UnratedCall, Call]]:
    """Yield the calls that wait for a price, the longest first, each kept from others until the transaction ends."""
    waiting = UnratedCall.objects.select_for_update(skip_locked=True).order_by("noticed_at", "id")
    for unrated in waiting.iterator(chunk_size=1000):
        calls = Call.objects.filter(organization_id=unrated.organization_id, started_at=unrated.started_at)
        yield unrated, calls.select_related("organization", "mix").get(id=unrated.id)


def announce(organization_ids: list[int]) -> None:
    """Tell the listeners that calls of these organizations were recorded or rated."""
    signals.calls_recorded.send(sender=None, organization_ids=organization_ids)


@dataclass(slots=True)
class _Batch:
    """The items of one request on their way; what is answered on the way goes no further."""

    now: datetime
    answers: list[Answer]
    # Items whose id another item of the batch has: what they are is known once that one is recorded, or is not.
    repeats: list[NewCall] = field(default_factory=list)
    corrected: list[tuple[int, CallObject, Payer]] = field(default_factory=list)
    # What could not be read, and all whose organization is known, for the log.
    unread: list[tuple[int, Peeked]] = field(default_factory=list)
    arrived: list[tuple[int, int, CallObject | Peeked]] = field(default_factory=list)

    def read(self, items: Iterable[bytes | msgspec.Raw]) -> Iterator[tuple[int, CallObject]]:
        """Yield what could be read, with its index."""
        for index, raw in enumerate(items):
            try:
                call = call_objects.decode(raw, now=self.now)
            except CallRejected as error:
                peeked = call_objects.peek(raw)
                self.unread.append((index, peeked))
                self.answers[index].call_id = peeked.call_id
                self.reject(index, error.field, error.reason)
                continue
            self.answers[index].call_id = call.call_id
            yield index, call

    def with_payers(
        self, read: list[tuple[int, CallObject]], scope: Organization | None
    ) -> Iterator[tuple[int, CallObject, Payer]]:
        """Yield the calls whose organization exists and may be written, having asked for all in one query."""
        references = {call.organization for _, call in read} | {peeked.organization for _, peeked in self.unread}
        payers = _payers({reference for reference in references if reference}, scope)
        for index, peeked in self.unread:
            if payer := payers.get(peeked.organization or (scope.reference if scope else "")):
                self.arrived.append((index, payer.id, peeked))
        for index, call in read:
            reference = call.organization or (scope and scope.reference)
            payer = payers.get(reference or "")
            if reference is None:
                self.reject(index, "organization", "The field is required.")
            elif payer is None:
                self.reject(index, "organization", f"There is no organization {reference}.")
            else:
                self.arrived.append((index, payer.id, call))
                yield index, call, payer

    def rated(self, named: Iterable[tuple[int, CallObject, Payer]], catalog: Catalog) -> Iterator[NewCall]:
        """Yield the calls with their price, or with what they lack; of one id only the first that has either."""
        seen: set[tuple[int, str]] = set()
        for index, call, payer in named:
            if call.replaces:
                self.corrected.append((index, call, payer))
                continue
            if (payer.id, call.call_id) in seen:
                self.repeats.append(NewCall(index, payer.id, call, None, None, []))
                continue
            try:
                snapshot, rating, missing = price(catalog, payer, call.facts, call.started_at, self.now)
            except AmountOutOfRange:
                self.reject(index, "", "The call costs more than an account can hold.")
                continue
            seen.add((payer.id, call.call_id))
            yield NewCall(index, payer.id, call, snapshot, rating, missing)

    def answer_known(self, calls: list[NewCall]) -> None:
        """Answer the calls whose ids are known already, be it since this very batch."""
        known = storage.digests(calls) if calls else {}
        others = [call for call in calls if known.get((call.organization_id, call.call.call_id)) != call.call.digest]
        later = revisions.digests({(call.organization_id, call.call.call_id) for call in others}) if others else {}
        for new in calls:
            place = (new.organization_id, new.call.call_id)
            digest = known.get(place)
            answer = self.answers[new.index]
            if digest is None:
                self.reject(new.index, "call_id", "An earlier item of the batch has this id and was rejected.")
            elif new.call.digest == digest or new.call.digest in later.get(place, ()):
                answer.status = DUPLICATE
            else:
                answer.status = CONFLICT
                answer.field, answer.reason = "call_id", "Another content is recorded under this id."

    def answer_correction(self, index: int, outcome: Outcome) -> None:
        """Answer a correction as it came out."""
        answer = self.answers[index]
        answer.status, answer.field, answer.reason = outcome.status, outcome.field or None, outcome.reason or None
        answer.revision, answer.rated = outcome.revision, outcome.rated

    def note(self, api_key_id: int | None) -> None:
        """Keep by which numbers the items were counted, and which were refused or known: last, as it locks rows."""
        numbers = (
            Arrival(organization_id, item.source, item.source_sequence, item.over_at)
            for _, organization_id, item in self.arrived
            if item.source and item.source_sequence is not None
        )
        completeness.note(numbers, now=self.now)
        rejected, repeated = [], []
        for index, organization_id, _ in self.arrived:
            answer = self.answers[index]
            if answer.status == REJECTED:
                reason = answer.reason or ""
                rejected.append(Rejected(organization_id, answer.call_id, index, answer.field or "", reason))
            elif answer.status != RECORDED:
                repeated.append(Repeated(organization_id, answer.call_id or "", answer.status == CONFLICT))
        intake_log.note(rejected, repeated, now=self.now, api_key_id=api_key_id)

    def reject(self, index: int, field: str, reason: str) -> None:
        answer = self.answers[index]
        answer.status, answer.field, answer.reason = REJECTED, field or None, reason


def _insert(batch: _Batch, new: list[NewCall]) -> set[int]:
    """Store the new calls, answer them, and return their indexes. A value that no column can hold is rejected."""
    if not new:
        return set()
    # Only free fields may hold what no column does, so only they need a way back.
    is_free = any(call.call.has_detail for call in new)
    try:
        with transaction.atomic() if is_free else contextlib.nullcontext():
            recorded = storage.insert(new, now=batch.now)
    except DataError:
        unfit = storage.unfit(new) if is_free else set()
        if not unfit:
            raise
        for index in unfit:
            batch.reject(index, "", "The item holds a number that cannot be stored.")
        new[:] = [call for call in new if call.index not in unfit]
        recorded = storage.insert(new, now=batch.now)
    for call in new:
        if call.index in recorded:
            answer = batch.answers[call.index]
            answer.status, answer.rated = RECORDED, call.rating is not None
    return recorded


def _correct(batch: _Batch, catalog: Catalog, api_key_id: int | None) -> set[int]:
    """Record the corrections, answer them, and return the organizations whose calls have a new revision."""
    asked = [
        Correction(index, payer, call, call.replaces, call.correction_reason, Origin.API, api_key_id)
        for index, call, payer in batch.corrected
    ]
    try:
        with transaction.atomic():
            outcomes = corrections.record(asked, catalog=catalog, now=batch.now)
    except DataError:
        unfit = storage.unfit([NewCall(each.index, each.payer.id, each.call, None, None, []) for each in asked])
        if not unfit:
            raise
        for index in unfit:
            batch.reject(index, "", "The item holds a number that cannot be stored.")
        asked = [each for each in asked if each.index not in unfit]
        outcomes = corrections.record(asked, catalog=catalog, now=batch.now)
    for index, outcome in outcomes.items():
        batch.answer_correction(index, outcome)
    return {each.payer.id for each in asked if outcomes[each.index].status == RECORDED}


# One array costs less to send and to plan than hundreds of parameters.
_PAYERS = "SELECT reference, id, currency FROM accounts_organization WHERE reference = ANY(%s)"


def _payers(references: set[str], scope: Organization | None) -> dict[str, Payer]:
    if scope is not None:
        return {scope.reference: Payer(scope.pk, scope.currency)}
    with connection.cursor() as cursor:
        cursor.execute(_PAYERS, [list(references)])
        return {reference: Payer(pk, currency) for reference, pk, currency in cursor.fetchall()}
