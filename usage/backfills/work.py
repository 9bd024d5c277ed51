"""The work of backfills, a chunk of calls at a time: counting what would change, then making the revisions.

A chunk, and how far its organization's part is by then, are one transaction under a lock on the part. So whoever goes
on after a kill does each call once, and two at work do different parts.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from accounts import letters
from usage import corrections, prices, recorded, revisions, signals
from usage.backfills import plans, repricing
from usage.backfills.repricing import Seen
from usage.corrections import Correction, Origin
from usage.deltas import Delta
from usage.models import Backfill, BackfillPart, Call
from usage.pricing import Payer
from usage.revisions import Current
from usage.snapshots import Snapshot

log = structlog.get_logger(__name__)

COUNTED_AT_ONCE, REVISED_AT_ONCE = 5_000, 500

State = Backfill.State


def go_on(*, now: datetime) -> bool:
    """Do the next chunk of any backfill that is at work; False when none is left, or all are in others' hands.

    A part that fails is set aside after some attempts, and the others go on (F24).
    """
    part = None
    try:
        with transaction.atomic():
            part = _next_part()
            if part is not None:
                _do(part, now)
    except Exception:
        if part is None:
            raise
        BackfillPart.objects.filter(pk=part.pk).update(attempts=F("attempts") + 1)
        log.exception("part of a backfill failed", backfill_id=part.backfill_id, organization_id=part.organization_id)
        return True
    ended = _end_what_is_through(now)
    return part is not None or ended


def _next_part() -> BackfillPart | None:
    """Return a part with work left, locked; one that another works at is left to that."""
    counting = Q(backfill__state=State.COUNTING, counted_at=None)
    running = Q(backfill__state=State.RUNNING, done_at=None)
    parts = BackfillPart.objects.filter(counting | running, attempts__lt=plans.MOST_ATTEMPTS)
    parts = parts.select_related("backfill__price_version", "organization").order_by("backfill_id", "id")
    return parts.select_for_update(of=("self",), skip_locked=True).first()


def _do(part: BackfillPart, now: datetime) -> None:
    # Whoever cancels waits for the part's lock, so what the state is now, it is until the chunk is through.
    state = Backfill.objects.values_list("state", flat=True).get(pk=part.backfill_id)
    if state == State.COUNTING:
        _count(part, now)
    elif state == State.RUNNING:
        _revise(part, now)
    part.attempts = 0
    part.save()


def _count(part: BackfillPart, now: datetime) -> None:
    """Add the next calls to what the part was counted to be."""
    seen = repricing.chunk(part, (part.counted_upto_at, part.counted_upto_id), COUNTED_AT_ONCE)
    catalog = prices.current()
    snapshot = catalog.versions[part.backfill.price_version_id]
    for each in seen:
        before, delta = repricing.change(each, snapshot, catalog)
        part.calls += 1
        part.before_micros += before
        if delta is None:
            part.unpriced += 1
            continue
        part.more_micros += delta.charged_micros
        part.less_micros += delta.given_back_micros
        part.dearer += delta.charged_micros > delta.given_back_micros
        part.cheaper += delta.charged_micros < delta.given_back_micros
    if seen:
        part.counted_upto_at, part.counted_upto_id = seen[-1].place
    if len(seen) < COUNTED_AT_ONCE:
        part.counted_at = now


def _revise(part: BackfillPart, now: datetime) -> None:
    """Make revisions of the next calls whose price differs."""
    after = (part.done_upto_at, part.done_upto_id)
    seen = repricing.chunk(part, after, REVISED_AT_ONCE)
    if not seen:
        plans.end(part, now=now)
        return
    last = seen[-1].place
    # Who corrects one of them meanwhile waits for this; what was corrected a moment ago is read again.
    newest = revisions.lock({(part.organization_id, each.call_id) for each in seen})
    again = repricing.chunk(part, after, REVISED_AT_ONCE)
    _record(part, [each for each in again if each.place <= last and _is_newest(part, each, newest)], newest, now)
    part.looked_at += len(seen)
    part.done_upto_at, part.done_upto_id = last


def _is_newest(part: BackfillPart, seen: Seen, newest: dict[tuple[int, str], Current]) -> bool:
    """Say whether a call is locked, as it was read: none that arrived since is."""
    current = newest.get((part.organization_id, seen.call_id))
    return current is not None and current.id == seen.id


def _record(part: BackfillPart, seen: Sequence[Seen], newest: dict[tuple[int, str], Current], now: datetime) -> None:
    catalog = prices.current()
    snapshot = catalog.versions[part.backfill.price_version_id]
    changed: dict[int, Delta] = {}
    for each in seen:
        _, delta = repricing.change(each, snapshot, catalog)
        if delta is not None and (delta.line_micros or delta.given_back):
            changed[each.id] = delta
    if not changed:
        return
    asked = _corrections(part, [each for each in seen if each.id in changed], newest, snapshot)
    outcomes = corrections.record(asked, catalog=catalog, now=now)
    assert all(outcome.status == corrections.RECORDED for outcome in outcomes.values()), "each was locked as read"
    part.revised += len(changed)
    part.charged_micros += sum(delta.charged_micros for delta in changed.values())
    part.given_back_micros += sum(delta.given_back_micros for delta in changed.values())
    transaction.on_commit(lambda: signals.calls_recorded.send(sender=None, organization_ids=[part.organization_id]))


def _corrections(
    part: BackfillPart, seen: Sequence[Seen], newest: dict[tuple[int, str], Current], snapshot: Snapshot
) -> list[Correction]:
    """Return the same calls once more, to be priced by another version."""
    organization = part.organization
    within = Call.objects.filter(
        organization=organization,
        started_at__range=(seen[0].started_at, seen[-1].started_at),
        id__in=[each.id for each in seen],
    )
    calls = list(within.select_related("kind", "agent", "mix").order_by("started_at", "id"))
    payer = Payer(organization.pk, organization.currency)
    made = []
    for index, (call, again) in enumerate(zip(calls, recorded.objects(calls), strict=True)):
        digest = newest[organization.pk, call.call_id].digests[call.revision]
        same = msgspec.structs.replace(again, digest=digest)
        made.append(
            Correction(
                index,
                payer,
                same,
                call.revision,
                part.backfill.reason,
                Origin.BACKFILL,
                author_id=part.backfill_id,
                pinned=snapshot,
            )
        )
    return made


def _end_what_is_through(now: datetime) -> bool:
    """Let backfills go on to their next state of which every part is through; say whether any did."""
    ended = 0
    with transaction.atomic():
        at_work = Backfill.objects.filter(state__in=Backfill.AT_WORK).order_by("id")
        for backfill in at_work.select_for_update(skip_locked=True):
            field = "counted_at" if backfill.state == State.COUNTING else "done_at"
            if backfill.parts.filter(**{field: None}).exists():
                continue
            if backfill.state == State.COUNTING:
                backfill.state = State.COUNTED
                _tell_staff(backfill, now)
            else:
                backfill.state, backfill.finished_at = State.DONE, now
            backfill.save(update_fields=["state", "finished_at"])
            log.info("backfill is through", backfill_id=backfill.pk, state=backfill.state)
            ended += 1
    return bool(ended)


def _tell_staff(backfill: Backfill, now: datetime) -> None:
    """Ask for the second person, with what was counted."""
    letters.write(
        template="emails/backfill_counted",
        reference=f"backfill:{backfill.public_id}:counted",
        to=settings.STAFF_NOTICE_EMAILS,
        backfill=backfill,
        sums=plans.sums(backfill),
        currency=backfill.price_version.book.currency,
        now=now,
    )
