"""What became of a conversation: a pure function of its events and of the rules.

A resolution is followed through the events in the order in which they happened: an answer opens the question whether it
helped; the customer's word confirms it, silence for the window decides it, and a call for help, a bad rating or the way
to a person ends it, also after it was decided. The other outcomes are told by the vendor and stand.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from usage.models.outcomes import EventKind, OutcomeType, ReplyKind


class Fact(NamedTuple):
    """One event as far as it is judged. Facts sort by what they say, so their order never depends on their arrival.

    Of one instant, what an agent did comes before what the customer said to it, and of two replies the one that asks
    for help comes last, where it counts. `value` is the reply's kind, the rating, or 1 for a greeting.
    """

    occurred_at: datetime
    kind: int
    value: int
    key: UUID


@dataclass(frozen=True, slots=True)
class Rules:
    """One version of the rules. `prices` are micros an outcome; what has none is never an outcome."""

    version_id: int
    number: int
    starts_at: datetime
    window: timedelta
    precedence: tuple[str, ...]
    confirming_replies: frozenset[int]
    reversing_replies: frozenset[int]
    confirming_rating: int | None
    reversing_rating: int | None
    escalation_reverses: bool
    closing_decides: bool
    prices: dict[str, int]


class Reason:
    """Why there is an outcome, or none."""

    CONFIRMED, ASSUMED, TOLD = "confirmed", "assumed", "told"
    NO_AGENT, NO_ANSWER = "no_agent", "no_answer"
    NEEDS_HELP, BAD_RATING, ESCALATED = "needs_help", "bad_rating", "escalated"
    NOT_PRICED = "not_priced"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a conversation. Without an outcome `outcome` is empty and nothing is decided.

    `decided_at` is when the outcome is final: in the future while it is only being waited for. `decided_by` and
    `reversed_by` are keys of events; nothing decided by silence has one.
    """

    outcome: str
    reason: str
    decided_at: datetime | None = None
    decided_by: UUID | None = None
    reversed_by: UUID | None = None

    @property
    def basis(self) -> str:
        """Return whether the outcome was confirmed or is assumed; empty without one."""
        if not self.outcome:
            return ""
        return Reason.ASSUMED if self.reason == Reason.ASSUMED else Reason.CONFIRMED


_TOLD = {
    EventKind.PROCEDURE_HANDOFF: OutcomeType.PROCEDURE_HANDOFF,
    EventKind.QUALIFIED: OutcomeType.QUALIFICATION,
    EventKind.DISQUALIFIED: OutcomeType.DISQUALIFICATION,
}
_GREETING = 1


def judge(facts: Collection[Fact], rules: Rules) -> Judgement:
    """Return what became of a conversation with these events, each given once, in any order. Pure.

    More events never bring a second outcome, and equal sets of events are judged alike (I7, I8).
    """
    ordered = sorted(facts)
    if not any(fact.kind == EventKind.AI_ANSWERED for fact in ordered):
        return Judgement("", Reason.NO_AGENT)
    found: dict[str, Judgement] = {}
    for fact in ordered:
        if fact.kind in _TOLD:
            outcome = str(_TOLD[EventKind(fact.kind)])
            found.setdefault(outcome, Judgement(outcome, Reason.TOLD, fact.occurred_at, fact.key))
    resolution = _Resolution(rules)
    for fact in ordered:
        resolution.follow(fact)
    verdict = resolution.judgement()
    found[verdict.outcome] = verdict
    for outcome in rules.precedence:
        if outcome in found and outcome in rules.prices:
            return found[outcome]
    return verdict if not verdict.outcome else Judgement("", Reason.NOT_PRICED)


@dataclass(slots=True)
class _Resolution:
    """Whether the question is answered, as the events go on."""

    rules: Rules
    waits_since: datetime | None = None  # the last word since an answer that might have helped
    decided: Judgement | None = None
    ended: Judgement = field(default=Judgement("", Reason.NO_ANSWER))

    def follow(self, fact: Fact) -> None:
        """Go on by one event, the next in order."""
        self._let_time_pass(fact.occurred_at)
        if fact.kind == EventKind.AI_ANSWERED:
            if fact.value != _GREETING:
                self.waits_since = fact.occurred_at
        elif self.waits_since is None:
            return
        elif reason := self._reverses(fact):
            self.ended = Judgement("", reason, reversed_by=fact.key)
            self.waits_since = self.decided = None
        elif self.decided is None:
            self._go_on(fact)

    def judgement(self) -> Judgement:
        """Return what stands after the last event."""
        if self.decided is not None:
            return self.decided
        if self.waits_since is None:
            return self.ended
        return self._assumed(self.waits_since + self.rules.window)

    def _let_time_pass(self, until: datetime) -> None:
        if self.decided is None and self.waits_since is not None and self.waits_since + self.rules.window <= until:
            self.decided = self._assumed(self.waits_since + self.rules.window)

    def _go_on(self, fact: Fact) -> None:
        if self._confirms(fact):
            self.decided = Judgement(OutcomeType.RESOLUTION, Reason.CONFIRMED, fact.occurred_at, fact.key)
        elif fact.kind == EventKind.CLOSED:
            if self.rules.closing_decides:
                self.decided = Judgement(OutcomeType.RESOLUTION, Reason.ASSUMED, fact.occurred_at, fact.key)
        elif fact.kind in {EventKind.CUSTOMER_REPLIED, EventKind.CUSTOMER_RATED}:
            self.waits_since = fact.occurred_at

    def _assumed(self, at: datetime) -> Judgement:
        return Judgement(OutcomeType.RESOLUTION, Reason.ASSUMED, at)

    def _confirms(self, fact: Fact) -> bool:
        if fact.kind == EventKind.CUSTOMER_REPLIED:
            return fact.value in self.rules.confirming_replies
        bound = self.rules.confirming_rating
        return fact.kind == EventKind.CUSTOMER_RATED and bound is not None and fact.value >= bound

    def _reverses(self, fact: Fact) -> str:
        """Return why an event ends the resolution, or nothing."""
        rules = self.rules
        if fact.kind == EventKind.CUSTOMER_REPLIED and fact.value in rules.reversing_replies:
            return Reason.NEEDS_HELP
        bound = rules.reversing_rating
        if fact.kind == EventKind.CUSTOMER_RATED and bound is not None and fact.value <= bound:
            return Reason.BAD_RATING
        return Reason.ESCALATED if fact.kind == EventKind.ESCALATED and rules.escalation_reverses else ""


def held(fact: Fact, facts: Collection[Fact]) -> str:
    """Return why an event cannot count yet, or nothing: what it answers to is not known."""
    if fact.kind == EventKind.AI_ANSWERED:
        return ""
    answers = [each.occurred_at for each in facts if each.kind == EventKind.AI_ANSWERED]
    if not answers:
        return "No answer of the agent is known in this conversation yet; the event counts as soon as one is."
    said = fact.kind in {EventKind.CUSTOMER_REPLIED, EventKind.CUSTOMER_RATED}
    if said and min(answers) > fact.occurred_at:
        return "It lies before every answer known of this conversation; it counts as soon as one before it is."
    return ""


def reply_value(reply: str) -> int:
    """Return the place of a kind of reply in the order of facts."""
    return list(ReplyKind.values).index(reply)
