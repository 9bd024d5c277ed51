"""The double-entry journal: the only place that writes transactions and entries."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from billing_portal.ledger.models import Account, Entry, Grant, Transaction

Book = Entry.Book


class ReferenceReused(Exception):
    """A reference that already names a command came again with other content; nothing was changed."""

    def __init__(self, reference: str, known: object, given: object) -> None:
        super().__init__(f"The reference {reference!r} already names {known}, not {given}.")
        self.reference = reference
        self.known = known
        self.given = given


class Unbalanced(Exception):
    """The sides of a transaction do not sum to zero."""


@dataclass(frozen=True, slots=True)
class Side:
    """One entry to be: signed micros in a book; `grant` only in the credit book."""

    book: Book
    micros: int
    grant: Grant | None = None


def posted(account: Account, reference: str) -> Transaction | None:
    """Return the transaction that `reference` names in this organization, if it happened."""
    return Transaction.objects.filter(organization_id=account.organization_id, reference=reference).first()


def post(
    account: Account,
    *,
    kind: Transaction.Kind,
    reference: str,
    sides: Iterable[Side],
    now: datetime,
    reason: str = "",
    reverses: Transaction | None = None,
) -> Transaction:
    """Write one transaction under the account's lock; sides of zero are left out. Raises Unbalanced."""
    sides = [side for side in sides if side.micros]
    if sum(side.micros for side in sides):
        raise Unbalanced(f"{reference}: {sides}")
    transaction = Transaction.objects.create(
        organization_id=account.organization_id,
        kind=kind,
        reference=reference,
        reason=reason,
        reverses=reverses,
        occurred_at=now,
    )
    Entry.objects.bulk_create(
        Entry(
            organization_id=account.organization_id,
            transaction=transaction,
            book=side.book,
            grant=side.grant,
            currency=account.currency,
            micros=side.micros,
        )
        for side in sides
    )
    return transaction
