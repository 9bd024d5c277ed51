"""What becomes of a dispute: opened, talked over, and granted, rejected or withdrawn, once.

Whatever moves it holds the account's lock. A granted one of a line of an open invoice lowers that by a credit note;
any other gives credit of the kind `correction`, which is spent first and never expires. The invoice that billed it
stays as it is, byte for byte (I12).
"""

from datetime import datetime
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet, Sum

from accounts.models import Organization, User
from billing_portal.billing import credit_note_tasks, credit_notes
from billing_portal.billing.disputes import notices, subjects
from billing_portal.billing.models import CreditNote, Dispute, DisputeMessage, Invoice
from billing_portal.ledger import accounts, credits
from billing_portal.ledger.models import Grant

log = structlog.get_logger(__name__)

State = Dispute.State
_AT_ONCE = 100


class NotDisputable(Exception):
    """The subject cannot be disputed so; the message says why, for the customer to read."""


class AlreadyOpen(Exception):
    """The subject is disputed already."""

    def __init__(self, dispute: Dispute) -> None:
        super().__init__(f"{dispute.label} is disputed already.")
        self.dispute = dispute


class AlreadyDecided(Exception):
    """The dispute is not open any more."""

    def __init__(self, dispute: Dispute) -> None:
        super().__init__(f"The dispute is {dispute.get_state_display().lower()} already.")
        self.dispute = dispute


class TooMuch(ValueError):
    """More would be given back than the subject costs."""

    def __init__(self, most_micros: int, micros: int) -> None:
        super().__init__(f"{most_micros} micros can be given back, not {micros}.")
        self.most_micros = most_micros
        self.micros = micros


def open(  # noqa: A001 - as accounts are opened
    *,
    organization: Organization,
    kind: str,
    reference: str,
    reason: str,
    text: str,
    claimed_micros: int,
    public_id: UUID,
    by: User,
    now: datetime,
) -> Dispute:
    """Open a dispute of a subject, once per `public_id`, and tell both sides.

    Raises subjects.SubjectMissing, NotDisputable, and AlreadyOpen.
    """
    with transaction.atomic():
        accounts.lock(organization.pk, even_frozen=True)
        if known := Dispute.objects.filter(organization=organization, public_id=public_id).first():
            return known
        subject = subjects.find(organization, kind, reference)
        if disputed := of_subject(subject):
            raise AlreadyOpen(disputed)
        left = most_micros(subject)
        if not 0 < claimed_micros <= left:
            raise NotDisputable("Nothing of it is left to give back." if left <= 0 else "It cost less than that.")
        dispute = Dispute.objects.create(
            public_id=public_id,
            organization=organization,
            kind=subject.kind,
            reference=subject.reference,
            label=subject.label,
            reason=reason,
            currency=subject.currency,
            amount_micros=subject.amount_micros,
            price_micros=subject.price_micros,
            claimed_micros=claimed_micros,
            opened_by=by,
            opened_at=now,
            due_at=now + settings.DISPUTE_ANSWER_WITHIN,
        )
        _say(dispute, text=text, by=by, from_vendor=False, public_id=public_id, now=now)
        notices.opened(dispute, text, now=now)
    log.info("dispute opened", dispute_id=dispute.pk, organization_id=organization.pk, kind=kind)
    return dispute


def write(
    dispute: Dispute, *, text: str, by: User, from_vendor: bool, public_id: UUID, now: datetime
) -> DisputeMessage:
    """Add to the thread, once per `public_id`, and tell the other side. Raises AlreadyDecided.

    The vendor's word passes the turn to the customer; the customer's begins the vendor's time anew, unless it runs.
    """
    with transaction.atomic():
        locked = _lock(dispute)
        if known := locked.messages.filter(public_id=public_id).first():
            return known
        _assert_open(locked)
        if from_vendor:
            locked.due_at = locked.reminded_at = None
        elif locked.due_at is None:
            locked.due_at = now + settings.DISPUTE_ANSWER_WITHIN
        locked.save(update_fields=["due_at", "reminded_at"])
        message = _say(locked, text=text, by=by, from_vendor=from_vendor, public_id=public_id, now=now)
        notices.written(message, now=now)
    return message


def withdraw(dispute: Dispute, *, by: User, now: datetime) -> Dispute:
    """End a dispute that the customer gives up; doing it again changes nothing. Raises AlreadyDecided."""
    with transaction.atomic():
        locked = _lock(dispute)
        if locked.state == State.WITHDRAWN:
            return locked
        _end(locked, State.WITHDRAWN, by=by, now=now)
    return locked


def reject(dispute: Dispute, *, decision: str, by: User, now: datetime) -> Dispute:
    """End a dispute without giving anything back, and say why. Raises AlreadyDecided."""
    with transaction.atomic():
        locked = _lock(dispute)
        _end(locked, State.REJECTED, by=by, now=now, decision=decision)
        notices.decided(locked, now=now)
    return locked


def grant(dispute: Dispute, *, micros: int, decision: str, by: User, now: datetime) -> Dispute:
    """End a dispute and give `micros` back, once (the ledger's reference is the dispute's).

    Nothing is given where the subject was corrected since, and costs less already. Raises AlreadyDecided, TooMuch,
    subjects.SubjectMissing, and ledger.accounts.AccountFrozen.
    """
    with transaction.atomic():
        locked = _lock(dispute, even_frozen=False)
        _assert_open(locked)
        most, was_corrected = givable(locked)
        if not (0 < micros <= most or (micros == 0 and was_corrected)):
            raise TooMuch(most, micros)
        if micros:
            locked.credit_note = _credit_note(locked, micros, decision=decision, by=by, now=now)
        if micros and locked.credit_note is None:
            locked.grant = credits.grant(
                organization=locked.organization,
                kind=Grant.Kind.CORRECTION,
                micros=micros,
                reference=locked.reference_in_ledger,
                reason=decision,
                now=now,
            )
        locked.given_micros = micros
        _end(locked, State.GRANTED, by=by, now=now, decision=decision)
        notices.decided(locked, now=now)
    return locked


def givable(dispute: Dispute) -> tuple[int, bool]:
    """Return how much can be given back now, and whether the subject was made cheaper since the dispute was opened.

    Raises subjects.SubjectMissing.
    """
    subject = subjects.find(dispute.organization, dispute.kind, dispute.reference)
    price_then = dispute.amount_micros if dispute.price_micros is None else dispute.price_micros
    return most_micros(subject), subject.price_micros < price_then


def most_micros(subject: subjects.Subject) -> int:
    """Return what a subject costs now, after discounts, less what granted disputes of it gave back: never twice."""
    granted = _disputes_of(subject).filter(state=State.GRANTED)
    return max(0, subject.amount_micros - int(granted.aggregate(micros=Sum("given_micros"))["micros"] or 0))


def lowers_an_invoice(dispute: Dispute) -> bool:
    """Say whether what is given back comes off an invoice: that of the disputed line, while it is open."""
    if dispute.kind != Dispute.Kind.INVOICE_LINE:
        return False
    line = subjects.line_of(dispute.organization_id, dispute.reference)
    return line is not None and line.invoice.state == Invoice.State.OPEN


def of_subject(subject: subjects.Subject) -> Dispute | None:
    """Return the open dispute of a subject, if there is one."""
    return _disputes_of(subject).filter(state=State.OPEN).first()


def waiting() -> QuerySet[Dispute]:
    """Return the open disputes, the first deadline first; those that wait for the customer come last."""
    disputes = Dispute.objects.filter(state=State.OPEN).select_related("organization")
    return disputes.order_by(F("due_at").asc(nulls_last=True), "id")


def remind(*, now: datetime) -> int:
    """Tell staff of answers that are late, each once; return of how many."""
    late = Dispute.objects.filter(state=State.OPEN, due_at__lte=now, reminded_at=None).order_by("due_at", "id")
    told = 0
    for dispute in late.select_related("organization")[:_AT_ONCE]:
        with transaction.atomic():
            locked = _lock(dispute)
            if locked.is_open and locked.due_at and locked.due_at <= now and locked.reminded_at is None:
                locked.reminded_at = now
                locked.save(update_fields=["reminded_at"])
                notices.late(locked, now=now)
                told += 1
    return told


def _disputes_of(subject: subjects.Subject) -> QuerySet[Dispute]:
    of_organization = Dispute.objects.filter(organization_id=subject.organization_id)
    return of_organization.filter(kind=subject.kind, reference=subject.reference).order_by("id")


def _credit_note(dispute: Dispute, micros: int, *, decision: str, by: User, now: datetime) -> CreditNote | None:
    """Return the credit note that lowers the disputed line's invoice while that is open; None where credit is given."""
    line = subjects.line_of(dispute.organization_id, dispute.reference)
    if line is None or not lowers_an_invoice(dispute):
        return None
    try:
        note = credit_notes.ask(
            invoice=line.invoice,
            micros=micros,
            reason=decision,
            reference=dispute.reference_in_ledger,
            cause=CreditNote.Cause.DISPUTE,
            by=by,
            now=now,
        )
    except (credit_notes.NotCreditable, credit_notes.AmountRefused):
        return None  # not as much is left of the invoice: what is given back is credit
    credit_note_tasks.ask_to_issue(note)
    return note


def _lock(dispute: Dispute, *, even_frozen: bool = True) -> Dispute:
    accounts.lock(dispute.organization_id, even_frozen=even_frozen)
    locked = Dispute.objects.select_for_update(of=("self",)).select_related("organization", "opened_by")
    return locked.get(pk=dispute.pk, organization_id=dispute.organization_id)


def _assert_open(dispute: Dispute) -> None:
    if not dispute.is_open:
        raise AlreadyDecided(dispute)


def _end(dispute: Dispute, state: State, *, by: User, now: datetime, decision: str = "") -> None:
    _assert_open(dispute)
    dispute.state, dispute.decided_by, dispute.decided_at, dispute.decision = state, by, now, decision
    dispute.due_at = None
    dispute.save()
    log.info("dispute ended", dispute_id=dispute.pk, organization_id=dispute.organization_id, state=str(state))


def _say(dispute: Dispute, *, text: str, by: User, from_vendor: bool, public_id: UUID, now: datetime) -> DisputeMessage:
    return DisputeMessage.objects.create(
        public_id=public_id,
        organization_id=dispute.organization_id,
        dispute=dispute,
        author=by,
        is_from_vendor=from_vendor,
        text=text,
        written_at=now,
    )
