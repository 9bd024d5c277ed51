"""The journal as a customer reads it: what changed the credit, and what was left after each change."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from billing_portal.ledger.models import Account, Transaction


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One transaction that moved credit: signed micros, and the credit after it."""

    transaction: Transaction
    occurred_at: datetime
    label: str
    micros: int
    balance_micros: int


_MOVEMENTS = """
    SELECT transaction_id, sum(micros), sum(sum(micros)) OVER (ORDER BY transaction_id)
    FROM ledger_entry WHERE organization_id = %s AND book = 'credit'
    GROUP BY transaction_id ORDER BY transaction_id DESC LIMIT %s"""


_VERBS = {
    Transaction.Kind.GRANT: "granted",
    Transaction.Kind.EXPIRE: "expired",
    Transaction.Kind.REVERSE: "taken back",
}


def credit_lines(account: Account, *, limit: int = 50) -> Iterator[StatementLine]:
    """Yield the newest movements of credit, newest first, each with the credit left after it."""
    with connection.cursor() as cursor:
        cursor.execute(_MOVEMENTS, [account.organization_id, limit])
        rows = cursor.fetchall()
    named = Transaction.objects.prefetch_related("entries__grant")
    transactions = named.in_bulk([transaction_id for transaction_id, _, _ in rows])
    for transaction_id, moved, balance in rows:
        transaction = transactions[transaction_id]
        yield StatementLine(
            transaction=transaction,
            occurred_at=transaction.occurred_at,
            label=_label(transaction),
            micros=int(moved),
            balance_micros=int(balance),
        )


def _label(transaction: Transaction) -> str:
    """Return what a customer calls it: the credit that was given or expired, or usage."""
    if transaction.kind == Transaction.Kind.SETTLE:
        return "Usage paid from credit"
    grant = next(entry.grant for entry in transaction.entries.all() if entry.grant)
    verb = _VERBS[Transaction.Kind(transaction.kind)]
    if transaction.reverses_id:
        verb = "given back"
    reason = transaction.reason or grant.reason
    return f"{grant.get_kind_display()} {verb}" + (f" · {reason}" if reason else "")
