"""The double-entry journal: the only place that writes transactions and entries."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from billing_portal.ledger.models import Account, Entry, Grant, Transaction
from usage import columns

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


@dataclass(frozen=True, slots=True)
class Posting:
    """One transaction to be, of an account under its lock."""

    account: Account
    reference: str
    sides: Sequence[Side]


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


_POST_ALL = """
    WITH posted AS (
        INSERT INTO ledger_transaction (organization_id, kind, reference, reason, occurred_at)
        SELECT organization_id, %(kind)s, reference, '', %(now)s
        FROM unnest(%(organizations)s::bigint[], %(references)s::text[]) AS posting (organization_id, reference)
        RETURNING id, organization_id
    )
    INSERT INTO ledger_entry (organization_id, transaction_id, book, grant_id, currency, micros)
    SELECT posted.organization_id, posted.id, book, grant_id, currency, micros
    FROM unnest(%(of)s::bigint[], %(books)s::text[], %(grants)s::bigint[], %(currencies)s::text[], %(micros)s::bigint[])
         WITH ORDINALITY AS side (organization_id, book, grant_id, currency, micros, place)
    JOIN posted ON posted.organization_id = side.organization_id ORDER BY place"""


def post_all(postings: Sequence[Posting], *, kind: Transaction.Kind, now: datetime) -> None:
    """Write one transaction each of different accounts, as `post` does, in one statement. Raises Unbalanced."""
    for posting in postings:
        if sum(side.micros for side in posting.sides):
            raise Unbalanced(f"{posting.reference}: {posting.sides}")
    named = [(posting.account.organization_id, posting.reference) for posting in postings]
    entries = [
        (
            posting.account.organization_id,
            str(side.book),
            side.grant.pk if side.grant else None,
            posting.account.currency,
            side.micros,
        )
        for posting in postings
        for side in posting.sides
        if side.micros
    ]
    values: dict[str, Any] = {
        "kind": str(kind),
        "now": now,
        **columns.of(("organizations", "references"), named),
        **columns.of(("of", "books", "grants", "currencies", "micros"), entries),
    }
    with connection.cursor() as cursor:
        cursor.execute(_POST_ALL, values)
