"""New outcome rules, from a proposal to the version in the book: previewed on a full month, decided by a second person.

Proposed, previewed, asked for, entered. Nothing judges by a proposal; what it would have done stands in its impacts.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction

from accounts.models import User
from usage.models import OutcomeRuleVersion, PriceBook, RuleProposal
from usage.outcomes import impacts, rule_documents, rules

log = structlog.get_logger(__name__)

State = RuleProposal.State

# An event may be five minutes ahead, so its conversation may be judged by what starts that soon.
LAST_TAKEN_BACK = timedelta(minutes=10)


class StartPassed(Exception):
    """New rules start in the future, so that everyone can be told before."""

    def __init__(self, starts_at: datetime) -> None:
        super().__init__(
            f"The rules would start at {starts_at:%Y-%m-%d %H:%M} UTC, which has passed. Choose a later one."
        )
        self.starts_at = starts_at


class StartTaken(Exception):
    """Another version of the book starts at the same instant."""

    def __init__(self, version: OutcomeRuleVersion) -> None:
        super().__init__(f"{version} starts at the same instant. Choose another one.")
        self.version = version


class ProposalReused(Exception):
    """The form's key names another proposal: it was changed after it was sent."""

    def __init__(self, proposal: RuleProposal) -> None:
        super().__init__("This form was sent before with other content. Open it again.")
        self.proposal = proposal


class NotOpen(Exception):
    """The proposal is not in a state in which this can be done."""

    def __init__(self, proposal: RuleProposal) -> None:
        super().__init__(f"This cannot be done now: the proposal is “{proposal.get_state_display().lower()}”.")
        self.proposal = proposal


class PreviewOutdated(Exception):
    """Another month has ended since the preview: it has to be made anew before anybody decides."""

    def __init__(self, proposal: RuleProposal) -> None:
        super().__init__(f"The preview is of {proposal.month:%B %Y}, and another month has ended. Preview it again.")
        self.proposal = proposal


class TooLate(Exception):
    """The rules are in force, or start within minutes: they can only be followed by others."""

    def __init__(self, proposal: RuleProposal) -> None:
        super().__init__(
            f"These rules start at {proposal.starts_at:%Y-%m-%d %H:%M} UTC and can no longer be taken back. "
            "Propose others that follow them."
        )
        self.proposal = proposal


class SamePerson(Exception):
    """Whoever proposed cannot decide."""

    def __init__(self, proposal: RuleProposal) -> None:
        super().__init__("You proposed this yourself; somebody else has to decide.")
        self.proposal = proposal


def propose(
    *, book: PriceBook, document: dict[str, Any], reason: str, public_id: UUID, by: User, now: datetime
) -> RuleProposal:
    """Keep a proposed version, to be previewed; once per `public_id`. `document` has neither book nor number.

    Raises PriceDocumentInvalid naming the field, StartPassed, StartTaken, ProposalReused.
    """
    document = {**document, "book": book.reference}
    entry = rule_documents.entry(document)
    known = RuleProposal.objects.filter(public_id=public_id).first()
    if known is not None:
        if (known.document, known.reason) != (document, reason):
            raise ProposalReused(known)
        return known
    _assert_startable(book, entry.starts_at_utc, now)
    with transaction.atomic():
        proposal, is_new = RuleProposal.objects.get_or_create(
            public_id=public_id,
            defaults={
                "book": book,
                "document": document,
                "starts_at": entry.starts_at_utc,
                "reason": reason,
                "proposed_by": by,
                "proposed_at": now,
                "month": impacts.last_full_month(now),
            },
        )
        if is_new:
            impacts.begin(proposal)
    return proposal


def preview_again(public_id: UUID, *, now: datetime) -> RuleProposal:
    """Begin the preview anew, of the month that is the last full one now. Raises NotOpen while one is being made."""
    with transaction.atomic():
        proposal = _lock(public_id, State.PREVIEWED, State.WAITING, State.FAILED)
        proposal.state, proposal.month, proposal.summary = State.PREVIEWING, impacts.last_full_month(now), None
        proposal.lease, proposal.attempts = None, 0
        proposal.save(update_fields=["state", "month", "summary", "lease", "attempts"])
        impacts.begin(proposal)
    return proposal


def ask(public_id: UUID, *, by: User, now: datetime) -> RuleProposal:
    """Have a previewed proposal wait for a second person. Again by the same person it changes nothing.

    Raises RuleProposal.DoesNotExist for another's proposal, NotOpen, PreviewOutdated, StartPassed.
    """
    with transaction.atomic():
        proposal = _lock(public_id, State.PREVIEWED, State.WAITING)
        if proposal.proposed_by_id != by.pk:
            raise RuleProposal.DoesNotExist
        _assert_timely(proposal, now)
        proposal.state = State.WAITING
        proposal.save(update_fields=["state"])
    return proposal


def approve(public_id: UUID, *, by: User, now: datetime) -> RuleProposal:
    """Enter what another person proposed, as the next version of its book. Again by the same person: no effect.

    Raises SamePerson, NotOpen, PreviewOutdated, StartPassed, StartTaken.
    """
    with transaction.atomic():
        proposal = RuleProposal.objects.select_for_update(of=("self",)).get(public_id=public_id)
        if proposal.state == State.ENTERED and proposal.decided_by_id == by.pk:
            return proposal
        _assert_decidable(proposal, by)
        _assert_timely(proposal, now)
        book = PriceBook.objects.select_for_update().get(pk=proposal.book_id)
        _assert_startable(book, proposal.starts_at, now)
        newest = book.outcome_rules.order_by("-number").values_list("number", flat=True).first() or 0
        entered = rules.load({"rules": [{**proposal.document, "number": newest + 1}]}, now=now)
        proposal.version = entered[0]
        _decide(proposal, State.ENTERED, by, now)
    log.info("outcome rules entered", proposal_id=proposal.pk, version_id=proposal.version.pk)
    return proposal


def decline(public_id: UUID, *, by: User, reason: str, now: datetime) -> RuleProposal:
    """Refuse what another person proposed. Raises SamePerson and NotOpen."""
    with transaction.atomic():
        proposal = RuleProposal.objects.select_for_update(of=("self",)).get(public_id=public_id)
        _assert_decidable(proposal, by)
        _decide(proposal, State.DECLINED, by, now, reason=reason)
    return proposal


def withdraw(public_id: UUID, *, by: User) -> RuleProposal:
    """Take back one's own proposal before anybody decided. Raises NotOpen, RuleProposal.DoesNotExist."""
    with transaction.atomic():
        proposal = _lock(public_id, *RuleProposal.OPEN)
        if proposal.proposed_by_id != by.pk:
            raise RuleProposal.DoesNotExist
        proposal.state = State.WITHDRAWN
        proposal.save(update_fields=["state"])
    return proposal


def revoke(public_id: UUID, *, by: User, reason: str, now: datetime) -> RuleProposal:
    """Take entered rules out of their book before they start; whoever was told of them is told again, with `reason`.

    The version goes, as it judged nothing; what it said and who entered it stays here. Again by the same person it
    changes nothing. Raises NotOpen, TooLate.
    """
    with transaction.atomic():
        locked = RuleProposal.objects.select_for_update(of=("self",)).select_related("version", "book")
        proposal = locked.get(public_id=public_id)
        if proposal.state == State.REVOKED and proposal.revoked_by_id == by.pk:
            return proposal
        if proposal.state != State.ENTERED or proposal.version is None:
            raise NotOpen(proposal)
        version = OutcomeRuleVersion.objects.select_for_update().get(pk=proposal.version_id)
        if not rules.editable(version, now + LAST_TAKEN_BACK):
            raise TooLate(proposal)
        proposal.state, proposal.version = State.REVOKED, None
        proposal.revoked_by, proposal.revoked_at, proposal.revoked_reason = by, now, reason
        proposal.save(update_fields=["state", "version", "revoked_by", "revoked_at", "revoked_reason"])
        version.delete()
    log.info("outcome rules taken back", proposal_id=proposal.pk, user_id=by.pk)
    return proposal


def _lock(public_id: UUID, *states: State) -> RuleProposal:
    locked = RuleProposal.objects.select_for_update(of=("self",)).select_related("book")
    proposal = locked.get(public_id=public_id)
    if proposal.state not in states:
        raise NotOpen(proposal)
    return proposal


def _assert_startable(book: PriceBook, starts_at: datetime, now: datetime) -> None:
    if starts_at <= now:
        raise StartPassed(starts_at)
    taken = book.outcome_rules.filter(starts_at=starts_at).first()
    if taken is not None:
        raise StartTaken(taken)


def _assert_timely(proposal: RuleProposal, now: datetime) -> None:
    if proposal.starts_at <= now:
        raise StartPassed(proposal.starts_at)
    if proposal.month != impacts.last_full_month(now):
        raise PreviewOutdated(proposal)


def _assert_decidable(proposal: RuleProposal, by: User) -> None:
    if proposal.state != State.WAITING:
        raise NotOpen(proposal)
    if proposal.proposed_by_id == by.pk:
        raise SamePerson(proposal)


def _decide(proposal: RuleProposal, state: State, by: User, now: datetime, *, reason: str = "") -> None:
    proposal.state, proposal.decided_by, proposal.decided_at, proposal.decision_reason = state, by, now, reason
    proposal.save(update_fields=["state", "version", "decided_by", "decided_at", "decision_reason"])
