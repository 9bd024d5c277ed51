"""From a proposal to the version in a price book: previewed on a full month, decided by a second person.

Proposed, previewed, asked for, entered; until its start it can be taken back. What is proposed prices and judges
nothing; what it would have done stands in its impacts. What is particular to rules and to prices they say themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

import structlog
from django.db import models, transaction

from accounts.models import User
from usage import previews
from usage.models import PriceBook
from usage.models.proposals import Proposal, ProposalState

log = structlog.get_logger(__name__)

State = ProposalState
P = TypeVar("P", bound=Proposal)

# A fact may be dated five minutes ahead, so what starts that soon may be used already.
LAST_TAKEN_BACK = timedelta(minutes=10)


class StartPassed(Exception):
    """What is new starts in the future, so that everyone can be told before."""

    def __init__(self, starts_at: datetime) -> None:
        super().__init__(f"It would start at {starts_at:%Y-%m-%d %H:%M} UTC, which has passed. Choose a later instant.")
        self.starts_at = starts_at


class StartTaken(Exception):
    """Another version of the book starts at the same instant."""

    def __init__(self, version: models.Model) -> None:
        super().__init__(f"{version} starts at the same instant. Choose another one.")
        self.version = version


class ProposalReused(Exception):
    """The form's key names another proposal: it was changed after it was sent."""

    def __init__(self, proposal: Proposal) -> None:
        super().__init__("This form was sent before with other content. Open it again.")
        self.proposal = proposal


class NotOpen(Exception):
    """The proposal is not in a state in which this can be done."""

    def __init__(self, proposal: Proposal) -> None:
        super().__init__(f"This cannot be done now: the proposal is “{proposal.get_state_display().lower()}”.")
        self.proposal = proposal


class PreviewOutdated(Exception):
    """Another month has ended since the preview: it has to be made anew before anybody decides."""

    def __init__(self, proposal: Proposal) -> None:
        super().__init__(f"The preview is of {proposal.month:%B %Y}, and another month has ended. Preview it again.")
        self.proposal = proposal


class TooLate(Exception):
    """What was entered is in force, or starts within minutes: it can only be followed by another version."""

    def __init__(self, proposal: Proposal) -> None:
        super().__init__(
            f"This starts at {proposal.starts_at:%Y-%m-%d %H:%M} UTC and can no longer be taken back. "
            "Propose another version that follows it."
        )
        self.proposal = proposal


class InUse(Exception):
    """Something that is planned rests on the version that was entered."""

    def __init__(self, proposal: Proposal) -> None:
        super().__init__("Days are to be priced anew by this version. Cancel that first, then take it back.")
        self.proposal = proposal


class SamePerson(Exception):
    """Whoever proposed cannot decide."""

    def __init__(self, proposal: Proposal) -> None:
        super().__init__("You proposed this yourself; somebody else has to decide.")
        self.proposal = proposal


@dataclass(frozen=True)
class Proposals(Generic[P]):
    """The life of the proposals of one kind, by what is particular to it.

    `starts_at` reads a document, and raises PriceDocumentInvalid naming the field; `versions` are those of a book;
    `begin` notes whom a proposal concerns, replacing a former preview; `enter` stores it as the version of a number;
    `is_editable` says whether a version is not in force, nor used, at an instant; `remove` takes such a one out.
    """

    model: type[P]
    starts_at: Callable[[dict[str, Any]], datetime]
    versions: Callable[[PriceBook], models.QuerySet[Any]]
    begin: Callable[[P], None]
    enter: Callable[[P, int, datetime], Any]
    is_editable: Callable[[Any, datetime], bool]
    remove: Callable[[Any], None]

    def propose(
        self, *, book: PriceBook, document: dict[str, Any], reason: str, public_id: UUID, by: User, now: datetime
    ) -> P:
        """Keep a proposed version, to be previewed; once per `public_id`. `document` has neither book nor number.

        Raises PriceDocumentInvalid naming the field, StartPassed, StartTaken, ProposalReused.
        """
        document = {**document, "book": book.reference}
        starts_at = self.starts_at(document)
        known = self.model._default_manager.filter(public_id=public_id).first()
        if known is not None:
            if (known.document, known.reason) != (document, reason):
                raise ProposalReused(known)
            return known
        self._assert_startable(book, starts_at, now)
        with transaction.atomic():
            proposal, is_new = self.model._default_manager.get_or_create(
                public_id=public_id,
                defaults={
                    "book": book,
                    "document": document,
                    "starts_at": starts_at,
                    "reason": reason,
                    "proposed_by": by,
                    "proposed_at": now,
                    "month": previews.last_full_month(now),
                },
            )
            if is_new:
                self.begin(proposal)
        return proposal

    def preview_again(self, public_id: UUID, *, now: datetime) -> P:
        """Begin the preview anew, of the month that is the last full one now. Raises NotOpen while it is being made."""
        with transaction.atomic():
            proposal = self._lock(public_id, State.PREVIEWED, State.WAITING, State.FAILED)
            proposal.state, proposal.month, proposal.summary = State.PREVIEWING, previews.last_full_month(now), None
            proposal.lease, proposal.attempts = None, 0
            proposal.save(update_fields=["state", "month", "summary", "lease", "attempts"])
            self.begin(proposal)
        return proposal

    def ask(self, public_id: UUID, *, by: User, now: datetime) -> P:
        """Have a previewed proposal wait for a second person. Again by the same person it changes nothing.

        Raises DoesNotExist for another's proposal, NotOpen, PreviewOutdated, StartPassed.
        """
        with transaction.atomic():
            proposal = self._lock(public_id, State.PREVIEWED, State.WAITING)
            self._assert_own(proposal, by)
            _assert_timely(proposal, now)
            proposal.state = State.WAITING
            proposal.save(update_fields=["state"])
        return proposal

    def approve(self, public_id: UUID, *, by: User, now: datetime) -> P:
        """Enter what another person proposed, as the next version of its book. Again by the same person: no effect.

        Raises SamePerson, NotOpen, PreviewOutdated, StartPassed, StartTaken.
        """
        with transaction.atomic():
            proposal = self._any(public_id)
            if proposal.state == State.ENTERED and proposal.decided_by_id == by.pk:
                return proposal
            _assert_decidable(proposal, by)
            _assert_timely(proposal, now)
            book = PriceBook.objects.select_for_update().get(pk=proposal.book_id)
            self._assert_startable(book, proposal.starts_at, now)
            newest = self.versions(book).order_by("-number").values_list("number", flat=True).first() or 0
            proposal.version = self.enter(proposal, newest + 1, now)
            _decide(proposal, State.ENTERED, by, now)
        log.info("proposal entered", kind=self.model.__name__, proposal_id=proposal.pk, version_id=proposal.version.pk)
        return proposal

    def decline(self, public_id: UUID, *, by: User, reason: str, now: datetime) -> P:
        """Refuse what another person proposed. Raises SamePerson and NotOpen."""
        with transaction.atomic():
            proposal = self._any(public_id)
            _assert_decidable(proposal, by)
            _decide(proposal, State.DECLINED, by, now, reason=reason)
        return proposal

    def withdraw(self, public_id: UUID, *, by: User) -> P:
        """Take back one's own proposal before anybody decided. Raises NotOpen, DoesNotExist."""
        with transaction.atomic():
            proposal = self._lock(public_id, *Proposal.OPEN)
            self._assert_own(proposal, by)
            proposal.state = State.WITHDRAWN
            proposal.save(update_fields=["state"])
        return proposal

    def revoke(self, public_id: UUID, *, by: User, reason: str, now: datetime) -> P:
        """Take what was entered out of its book before it starts; whoever was told of it is told again, with `reason`.

        The version goes, as nothing rests on it; what it said and who entered it stays here. Again by the same person
        it changes nothing. Raises NotOpen, TooLate, InUse.
        """
        with transaction.atomic():
            proposal = self._any(public_id)
            if proposal.state == State.REVOKED and proposal.revoked_by_id == by.pk:
                return proposal
            if proposal.state != State.ENTERED:
                raise NotOpen(proposal)
            version = self.versions(proposal.book).select_for_update(of=("self",)).get(pk=proposal.version_id)
            if not self.is_editable(version, now + LAST_TAKEN_BACK):
                raise TooLate(proposal)
            proposal.state, proposal.version = State.REVOKED, None
            proposal.revoked_by, proposal.revoked_at, proposal.revoked_reason = by, now, reason
            proposal.save(update_fields=["state", "version", "revoked_by", "revoked_at", "revoked_reason"])
            try:
                with transaction.atomic():
                    self.remove(version)
            except models.ProtectedError:
                raise InUse(proposal) from None
        log.info("proposal taken back", kind=self.model.__name__, proposal_id=proposal.pk, user_id=by.pk)
        return proposal

    def _any(self, public_id: UUID) -> P:
        return (
            self.model._default_manager.select_for_update(of=("self",)).select_related("book").get(public_id=public_id)
        )

    def _lock(self, public_id: UUID, *states: State) -> P:
        proposal = self._any(public_id)
        if proposal.state not in states:
            raise NotOpen(proposal)
        return proposal

    def _assert_own(self, proposal: P, by: User) -> None:
        if proposal.proposed_by_id != by.pk:
            raise self.model.DoesNotExist

    def _assert_startable(self, book: PriceBook, starts_at: datetime, now: datetime) -> None:
        if starts_at <= now:
            raise StartPassed(starts_at)
        taken = self.versions(book).filter(starts_at=starts_at).first()
        if taken is not None:
            raise StartTaken(taken)


def _assert_timely(proposal: Proposal, now: datetime) -> None:
    if proposal.starts_at <= now:
        raise StartPassed(proposal.starts_at)
    if proposal.month != previews.last_full_month(now):
        raise PreviewOutdated(proposal)


def _assert_decidable(proposal: Proposal, by: User) -> None:
    if proposal.state != State.WAITING:
        raise NotOpen(proposal)
    if proposal.proposed_by_id == by.pk:
        raise SamePerson(proposal)


def _decide(proposal: Any, state: State, by: User, now: datetime, *, reason: str = "") -> None:
    proposal.state, proposal.decided_by, proposal.decided_at, proposal.decision_reason = state, by, now, reason
    proposal.save(update_fields=["state", "version", "decided_by", "decided_at", "decision_reason"])
