"""Recording conversation events: each once, every item answered for itself, their conversations judged anew."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import msgspec
from django.db import transaction

from accounts.models import Organization
from usage import signals
from usage.outcomes import charging, conversations, event_items, judging, rules
from usage.outcomes.conversations import Judged, Reference, Standing
from usage.outcomes.event_items import EventItem, EventRejected
from usage.outcomes.judging import Judgement

MAX_ITEMS = 5_000  # as `ingestion` takes calls: one request may hold events of either

RECORDED, HELD, DUPLICATE, CONFLICT, REJECTED = "recorded", "held", "duplicate", "conflict", "rejected"


class Answer(msgspec.Struct, gc=False):
    """What became of the event at `index`: recorded, held, duplicate, conflict or rejected.

    One that is held is recorded, and counts as soon as what it answers to is. Unless recorded or a duplicate it has a
    reason, and a field if it is about one.
    """

    index: int
    event_id: str | None
    conversation_id: str | None
    status: str
    field: str | None = None
    reason: str | None = None


class TooManyEvents(ValueError):
    """A batch holds at most `MAX_ITEMS` events."""


def record(items: Sequence[bytes | msgspec.Raw], *, now: datetime, scope: Organization | None = None) -> list[Answer]:
    """Record up to `MAX_ITEMS` conversation events and return an answer for each, in their order.

    Every item stands for itself. A known id with the same content is a duplicate, with other content a conflict. With
    `scope`, items need not name an organization and may name no other. What the events decide or undo is charged or
    given back in the same transaction; `signals.outcomes_charged` follows its commit. Safe twice and at once.
    """
    if len(items) > MAX_ITEMS:
        raise TooManyEvents(f"A batch holds at most {MAX_ITEMS:,} events, not {len(items):,}.")
    batch = _Batch(now, [Answer(index, None, None, REJECTED) for index in range(len(items))])
    told = list(batch.read(items, scope))
    with transaction.atomic():
        concerned = batch.store(told)
        if concerned:
            judged = judge(concerned)
            batch.answer_held(told, judged)
            charged = charging.undo(judged, now=now)
            conversations.write(judged)
            charged |= charging.charge([each.standing.id for each in judged], now=now)
            if charged:
                transaction.on_commit(lambda: announce(charged))
    return batch.answers


def judge(standings: Collection[Standing]) -> list[Judged]:
    """Judge conversations by all their events, under the rules in force when they began."""
    books = rules.current({each.organization_id for each in standings})
    judged = []
    known = conversations.facts(standings)
    for standing in standings:
        facts = known[standing.id]
        began_at = min(fact.occurred_at for fact in facts)
        version = books[standing.organization_id].at(began_at)
        judgement = judging.judge(facts, version) if version else Judgement("", "")
        last = max(fact.occurred_at for fact in facts)
        judged.append(Judged(standing, began_at, last, version, judgement, facts))
    return judged


def judge_unruled(*, now: datetime, limit: int = MAX_ITEMS) -> int:
    """Judge up to `limit` conversations that waited for rules, which have come; return how many that were."""
    with transaction.atomic():
        standings = conversations.unruled(limit)
        if standings:
            judged = judge(standings)
            conversations.write(judged)
            charged = charging.charge([each.standing.id for each in judged], now=now)
            if charged:
                transaction.on_commit(lambda: announce(charged))
    return len(standings)


def announce(organization_ids: Collection[int]) -> None:
    """Tell the listeners that outcomes of these organizations are to be settled."""
    signals.outcomes_charged.send(sender=None, organization_ids=sorted(organization_ids))


@dataclass(slots=True)
class _Told:
    """An event on its way, with its place in the batch."""

    index: int
    reference: Reference
    item: EventItem

    @property
    def key(self) -> tuple[int, UUID]:
        return self.reference.organization_id, self.item.fact.key


@dataclass(slots=True)
class _Batch:
    """The events of one request on their way."""

    now: datetime
    answers: list[Answer]
    repeats: list[_Told] = field(default_factory=list)

    def read(self, items: Sequence[bytes | msgspec.Raw], scope: Organization | None) -> Iterator[_Told]:
        """Yield what can be stored, of one id only the first."""
        read = list(self._decoded(items))
        payers = _payers({item.organization for _, item in read if item.organization}, scope)
        seen: set[tuple[int, UUID]] = set()
        for index, item in read:
            named = item.organization or (scope and scope.reference)
            organization_id = payers.get(named or "")
            if organization_id is None:
                reason = f"There is no organization {named}." if named else "The field is required."
                self._refuse(index, REJECTED, "organization", reason)
                continue
            told = _Told(index, Reference(organization_id, item.conversation), item)
            if told.key in seen:
                self.repeats.append(told)
            else:
                seen.add(told.key)
                yield told

    def store(self, told: list[_Told]) -> list[Standing]:
        """Store new events, answer all, and return the conversations that have new ones."""
        if not told:
            return []
        by_conversation: dict[Reference, list[EventItem]] = defaultdict(list)
        for each in told:
            by_conversation[each.reference].append(each.item)
        standings = conversations.lock(by_conversation, now=self.now)
        fresh = conversations.insert([(standings[each.reference], each.item) for each in told], now=self.now)
        known = [each for each in told if each.key not in fresh]
        self._answer_known([*known, *self.repeats])
        for each in told:
            if each.key in fresh:
                self.answers[each.index].status = RECORDED
        concerned = {each.reference for each in told if each.key in fresh}
        if unconcerned := standings.keys() - concerned:
            conversations.forget([standings[each].id for each in unconcerned])
        return [standings[each] for each in sorted(concerned)]

    def answer_held(self, told: list[_Told], judged: Sequence[Judged]) -> None:
        """Say of events just recorded that they cannot count yet."""
        facts = {(each.standing.organization_id, fact.key): each.facts for each in judged for fact in each.facts}
        for each in told:
            answer = self.answers[each.index]
            if answer.status == RECORDED and (reason := judging.held(each.item.fact, facts[each.key])):
                answer.status, answer.field, answer.reason = HELD, "conversation_id", reason

    def _decoded(self, items: Sequence[bytes | msgspec.Raw]) -> Iterator[tuple[int, EventItem]]:
        for index, raw in enumerate(items):
            try:
                item = event_items.decode(raw, now=self.now)
            except EventRejected as error:
                self._refuse(index, REJECTED, error.field, error.reason)
                continue
            self.answers[index].event_id = item.event_id
            self.answers[index].conversation_id = item.conversation
            yield index, item

    def _answer_known(self, told: list[_Told]) -> None:
        known = conversations.digests({each.key for each in told}) if told else {}
        for each in told:
            if known[each.key] == each.item.digest:
                self.answers[each.index].status = DUPLICATE
            else:
                self._refuse(each.index, CONFLICT, "event_id", "Another content is recorded under this id.")

    def _refuse(self, index: int, status: str, field: str, reason: str) -> None:
        answer = self.answers[index]
        answer.status, answer.field, answer.reason = status, field or None, reason


def _payers(references: set[str], scope: Organization | None) -> dict[str, int]:
    if scope is not None:
        return {scope.reference: scope.pk}
    return dict(Organization.objects.filter(reference__in=references).values_list("reference", "id"))
