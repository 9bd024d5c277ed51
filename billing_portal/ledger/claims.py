"""Money of a payment that went back, or that its bank holds: what it bought is taken back, what it paid is owed again.

Nothing here counts events. Each verb is told where things stand, compares that with what is posted, and posts the
difference. So it does not matter how often, or in which order, one hears of refunds and chargebacks.
"""

from datetime import datetime

import structlog
from django.db import transaction
from django.db.models import QuerySet, Sum

from accounts.models import Organization
from billing_portal.ledger import accounts, journal
from billing_portal.ledger.models import Account, Entry, Grant, Transaction

log = structlog.get_logger(__name__)

Book = journal.Book


def claim_credit(
    *,
    organization: Organization,
    grant_id: int,
    claimed_micros: int,
    held_micros: int,
    subject: str,
    reason: str,
    now: datetime,
) -> Transaction | None:
    """Hold a grant to what is left of its payment; return what was posted, if anything had changed.

    `claimed_micros` of the grant were paid back for good: what is left of it goes first, and what was spent is owed.
    Up to `held_micros`, which counts the claimed ones too, credit is taken as far as it is there, while nobody knows.
    What is neither claimed nor held any more comes back. `subject` names the payment for ever.
    """
    with transaction.atomic():
        account = accounts.lock(organization.pk)
        grant = Grant.objects.get(pk=grant_id, organization=organization)
        claimed = min(claimed_micros, grant.amount_micros)
        held = max(held_micros, claimed)
        taken, owed = micros_posted(account, subject, Book.CREDIT), micros_posted(account, subject, Book.RECEIVABLE)
        # Credit comes back, or goes, before debt does: what was spent stays spent.
        more = min(held - taken, grant.remaining_micros)
        debt = max(0, claimed - taken - more) - owed
        if not more and not debt:
            return None
        sides = [
            journal.Side(Book.CREDIT, -more, grant),
            journal.Side(Book.REVERSED, more),
            journal.Side(Book.RECEIVABLE, -debt),
            journal.Side(Book.CLAIMED, debt),
        ]
        posted = post_change(account, subject, sides, reason, now)
        grant.remaining_micros -= more
        grant.save(update_fields=["remaining_micros"])
    log.warning("credit claimed", organization_id=organization.pk, transaction_id=posted.pk, micros=more, debt=debt)
    return posted


def claim_debt(
    *, organization: Organization, owed_micros: int, uncredited_micros: int, subject: str, reason: str, now: datetime
) -> Transaction | None:
    """Owe again `owed_micros` that had been paid for usage and went back; return what was posted, if anything changed.

    `uncredited_micros` are those of credit notes that were to go back and did not: the payment counts again.
    """
    with transaction.atomic():
        account = accounts.lock(organization.pk)
        debt = owed_micros - micros_posted(account, subject, Book.RECEIVABLE)
        kept = uncredited_micros - micros_posted(account, subject, Book.CREDITED, sign=1)
        if not debt and not kept:
            return None
        sides = [
            journal.Side(Book.RECEIVABLE, -debt),
            journal.Side(Book.CREDITED, kept),
            journal.Side(Book.PAYMENTS, debt - kept),
        ]
        posted = post_change(account, subject, sides, reason, now)
    log.warning("payment claimed", organization_id=organization.pk, transaction_id=posted.pk, micros=debt, kept=kept)
    return posted


def owed(account: Account, subject: str) -> int:
    """Return the micros of a payment that went back for good and are owed again."""
    return micros_posted(account, subject, Book.RECEIVABLE)


def post_change(account: Account, subject: str, sides: list[journal.Side], reason: str, now: datetime) -> Transaction:
    """Post the next change of a subject; under the lock its number is its own."""
    number = _transactions(account, subject).count() + 1
    kind = Transaction.Kind.CLAIM
    return journal.post(
        account, kind=kind, reference=f"{_prefix(subject)}{number}", sides=sides, now=now, reason=reason[:200]
    )


def micros_posted(account: Account, subject: str, book: Entry.Book, *, sign: int = -1) -> int:
    """Return what all changes of a subject came to in a book."""
    entries = Entry.objects.filter(transaction__in=_transactions(account, subject), book=book)
    return sign * int(entries.aggregate(sum=Sum("micros"))["sum"] or 0)


def _transactions(account: Account, subject: str) -> QuerySet[Transaction]:
    return Transaction.objects.filter(
        organization_id=account.organization_id, reference__startswith=_prefix(subject), kind=Transaction.Kind.CLAIM
    )


def _prefix(subject: str) -> str:
    return f"claim:{subject}:"
