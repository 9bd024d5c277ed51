"""Undoing: what is left of a grant is taken back, and a whole transaction is answered by its opposite.

Nothing is edited. What was spent stays spent, and each reversal carries a reason that the customer reads.
"""

from datetime import datetime

import structlog
from django.db import transaction

from accounts.models import Organization
from billing_portal.ledger import accounts, journal, periods
from billing_portal.ledger.models import Account, Grant, Transaction, WriteOff

log = structlog.get_logger(__name__)

Kind = Transaction.Kind
_REVERSIBLE = {Kind.COLLECT, Kind.REVERSE, Kind.WRITE_OFF}


class NothingLeft(Exception):
    """The grant is spent, expired or taken back already."""

    def __init__(self, grant: Grant) -> None:
        super().__init__(f"Nothing is left of {grant.get_kind_display().lower()} {grant.reference!r}.")
        self.grant = grant


class NotReversible(Exception):
    """A transaction that has no opposite; the message says what to do instead."""

    def __init__(self, posted: Transaction, instead: str) -> None:
        super().__init__(f"{posted.get_kind_display()} ({posted.reference}) cannot be reversed. {instead}")
        self.transaction = posted


class AlreadyReversed(Exception):
    """The transaction was answered by its opposite before, under another reference."""

    def __init__(self, posted: Transaction) -> None:
        super().__init__(f"{posted.reference} is reversed already.")
        self.transaction = posted


def reverse_grant(
    *, organization: Organization, grant_id: int, reason: str, reference: str, now: datetime
) -> Transaction:
    """Take back what is left of a grant, once per `reference`.

    Raises NothingLeft, ReferenceReused if the reference names another command, and what `accounts.lock` raises.
    """
    with transaction.atomic():
        account = accounts.lock(organization.pk)
        grant = Grant.objects.get(pk=grant_id, organization=organization)
        known = journal.posted(account, reference)
        if known is not None:
            _assert_same(known, kind=Kind.REVERSE, content=(reason, None, grant.pk))
            return known
        left = grant.remaining_micros
        if not left:
            raise NothingLeft(grant)
        sides = [journal.Side(journal.Book.CREDIT, -left, grant), journal.Side(journal.Book.REVERSED, left)]
        posted = journal.post(account, kind=Kind.REVERSE, reference=reference, sides=sides, now=now, reason=reason)
        grant.remaining_micros = 0
        grant.save(update_fields=["remaining_micros"])
    log.info("credit taken back", organization_id=organization.pk, transaction_id=posted.pk, micros=left)
    return posted


def reverse(
    *, organization: Organization, transaction_id: int, reason: str, reference: str, now: datetime
) -> Transaction:
    """Answer a payment, a write-off or a reversal by its opposite, once per `reference`.

    Raises AlreadyReversed, NotReversible, ReferenceReused, and what `accounts.lock` raises.
    """
    with transaction.atomic():
        account = accounts.lock(organization.pk)
        wrong = Transaction.objects.get(pk=transaction_id, organization=organization)
        known = journal.posted(account, reference)
        if known is not None:
            _assert_same(known, kind=Kind.REVERSE, content=(reason, wrong.pk, _grant_id(wrong)))
            return known
        _assert_reversible(account, wrong)
        entries = list(wrong.entries.select_related("grant").order_by("id"))
        sides = [journal.Side(journal.Book(entry.book), -entry.micros, entry.grant) for entry in entries]
        posted = journal.post(
            account, kind=Kind.REVERSE, reference=reference, sides=sides, now=now, reason=reason, reverses=wrong
        )
        _give_back(sides)
    log.info("transaction reversed", organization_id=organization.pk, transaction_id=posted.pk, reverses_id=wrong.pk)
    return posted


def _assert_reversible(account: Account, wrong: Transaction) -> None:
    if wrong.kind not in _REVERSIBLE:
        instead = {
            Kind.GRANT: "Take back what is left of the grant.",
            Kind.SETTLE: "Correct the calls, or give a correction.",
            Kind.EXPIRE: "Give goodwill credit.",
            Kind.SET_OFF: "Correct the calls again.",
            Kind.CREDIT_NOTE: "Void the credit note at Stripe.",
            Kind.DISCOUNT: "End the discount, or give another.",
            Kind.CLAIM: "It follows what becomes of the payment at Stripe.",
        }
        raise NotReversible(wrong, instead[Kind(wrong.kind)])
    if Transaction.objects.filter(reverses=wrong).exists():
        raise AlreadyReversed(wrong)
    if wrong.reverses is not None and wrong.reverses.kind == Kind.WRITE_OFF:
        raise NotReversible(wrong, "Forgive it anew.")
    for entry in wrong.entries.filter(grant__isnull=False).select_related("grant"):
        if entry.grant is not None and entry.micros > entry.grant.remaining_micros:
            raise NotReversible(wrong, "Its credit was spent or has expired. Take back what is left of the grant.")
    forgiven = WriteOff.objects.filter(transaction=wrong, lines__isnull=False).first()
    closed = periods.last_closed(account.organization_id)
    if forgiven is not None and closed is not None and forgiven.month <= closed.month:
        raise NotReversible(wrong, "Its month is closed, so it stands on the invoice.")


def _give_back(sides: list[journal.Side]) -> None:
    """Follow the entries in the grants' remainders; the database refuses one beyond its amount."""
    for side in sides:
        if side.grant is not None:
            side.grant.remaining_micros += side.micros
            side.grant.save(update_fields=["remaining_micros"])


def _grant_id(posted: Transaction) -> int | None:
    return posted.entries.filter(grant__isnull=False).values_list("grant_id", flat=True).first()


def _assert_same(known: Transaction, *, kind: Kind, content: tuple[str, int | None, int | None]) -> None:
    found = (known.reason, known.reverses_id, _grant_id(known))
    if known.kind != kind or found != content:
        raise journal.ReferenceReused(known.reference, (known.kind, *found), (str(kind), *content))
