"""Re-derive every cache of the ledger from the rows it rests on."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.db import connection

from billing_portal.ledger.models import Account


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One broken law: its number in the invariants, what it is about, what was expected and what was found."""

    law: str
    subject: str
    expected: int
    found: int

    def __str__(self) -> str:
        return f"{self.law}: {self.subject}: expected {self.expected}, found {self.found}"


# Each query takes the organization once and yields (subject, expected, found) for every difference.
_LAWS = {
    "I1 transactions sum to zero": """
        SELECT 'transaction ' || transaction_id, 0, sum(micros) FROM ledger_entry
        WHERE organization_id = %s GROUP BY transaction_id, currency HAVING sum(micros) <> 0""",
    "I2 a grant's remainder is the sum of its entries": """
        SELECT 'grant ' || g.id, coalesce(sum(e.micros), 0), g.remaining_micros
        FROM ledger_grant g LEFT JOIN ledger_entry e ON e.grant_id = g.id AND e.book = 'credit'
        WHERE g.organization_id = %s GROUP BY g.id HAVING coalesce(sum(e.micros), 0) <> g.remaining_micros""",
    "I2 a grant's burns are what its entries took for usage": """
        SELECT 'grant ' || g.id,
               coalesce(journal.micros, 0), coalesce(burns.micros, 0)
        FROM ledger_grant g
        LEFT JOIN (SELECT e.grant_id, -sum(e.micros) AS micros
                   FROM ledger_entry e JOIN ledger_transaction t ON t.id = e.transaction_id
                   WHERE t.kind = 'settle' GROUP BY 1) journal ON journal.grant_id = g.id
        LEFT JOIN (SELECT grant_id, sum(micros) AS micros FROM ledger_burn GROUP BY 1) burns ON burns.grant_id = g.id
        WHERE g.organization_id = %s AND coalesce(journal.micros, 0) <> coalesce(burns.micros, 0)""",
    "I4 settlements follow one another without a gap": """
        SELECT 'settlement from ' || first_sequence, expected, first_sequence FROM (
            SELECT first_sequence,
                   1 + coalesce(lag(last_sequence) OVER (ORDER BY first_sequence), 0) AS expected
            FROM ledger_settlement WHERE organization_id = %s) s
        WHERE expected <> first_sequence""",
    "I4 the account's last sequence is the last settlement's": """
        SELECT 'account', coalesce(max(s.last_sequence), 0), a.last_sequence
        FROM ledger_account a LEFT JOIN ledger_settlement s USING (organization_id)
        WHERE a.organization_id = %s GROUP BY a.id HAVING coalesce(max(s.last_sequence), 0) <> a.last_sequence""",
    "I4 a settlement's charges are all there": """
        SELECT 'charges of settlement from ' || s.first_sequence,
               s.last_sequence - s.first_sequence + 1, count(c.id)
        FROM ledger_settlement s LEFT JOIN usage_charge c ON c.organization_id = s.organization_id
             AND c.sequence BETWEEN s.first_sequence AND s.last_sequence
        WHERE s.organization_id = %s GROUP BY s.id HAVING count(c.id) <> s.last_sequence - s.first_sequence + 1""",
    "I4 a settlement's gross is the sum of its charges": """
        SELECT 'settlement from ' || s.first_sequence, coalesce(sum(c.amount_micros), 0), s.gross_micros
        FROM ledger_settlement s LEFT JOIN usage_charge c ON c.organization_id = s.organization_id
             AND c.sequence BETWEEN s.first_sequence AND s.last_sequence
        WHERE s.organization_id = %s GROUP BY s.id HAVING coalesce(sum(c.amount_micros), 0) <> s.gross_micros""",
    "I4 gross = burnt + accrued, per component": """
        SELECT l.component || ' of settlement ' || l.settlement_id, l.gross_micros,
               l.accrued_micros + coalesce(sum(b.micros), 0)
        FROM ledger_settlementline l
        LEFT JOIN ledger_burn b ON b.settlement_id = l.settlement_id AND b.component = l.component
        WHERE l.organization_id = %s GROUP BY l.id
        HAVING l.gross_micros <> l.accrued_micros + coalesce(sum(b.micros), 0)""",
    "I4 a settlement's gross is the sum of its components": """
        SELECT 'settlement from ' || s.first_sequence, s.gross_micros, coalesce(sum(l.gross_micros), 0)
        FROM ledger_settlement s LEFT JOIN ledger_settlementline l ON l.settlement_id = s.id
        WHERE s.organization_id = %s GROUP BY s.id HAVING coalesce(sum(l.gross_micros), 0) <> s.gross_micros""",
    "I1 issued = consumed + expired + reversed + remaining": """
        SELECT 'all credit', -coalesce(sum(micros) FILTER (WHERE book = 'issued'), 0),
               coalesce(sum(micros) FILTER (WHERE book = 'breakage'), 0)
               + (SELECT coalesce(sum(b.micros), 0) FROM ledger_burn b WHERE b.organization_id = e.organization_id)
               + (SELECT coalesce(sum(g.remaining_micros), 0) FROM ledger_grant g
                  WHERE g.organization_id = e.organization_id)
        FROM ledger_entry e WHERE organization_id = %s GROUP BY organization_id
        HAVING -coalesce(sum(micros) FILTER (WHERE book = 'issued'), 0)
               <> coalesce(sum(micros) FILTER (WHERE book = 'breakage'), 0)
               + (SELECT coalesce(sum(b.micros), 0) FROM ledger_burn b WHERE b.organization_id = e.organization_id)
               + (SELECT coalesce(sum(g.remaining_micros), 0) FROM ledger_grant g
                  WHERE g.organization_id = e.organization_id)""",
}


def verify(organization_id: int) -> Iterator[Discrepancy]:
    """Yield every difference between the ledger's caches and what they follow from; nothing when all is well."""
    for law, query in _LAWS.items():
        with connection.cursor() as cursor:
            cursor.execute(query, [organization_id])
            for subject, expected, found in cursor.fetchall():
                yield Discrepancy(law=law, subject=subject, expected=int(expected), found=int(found))


def organization_ids() -> list[int]:
    """Return all organizations that have books, in order."""
    return list(Account.objects.order_by("organization_id").values_list("organization_id", flat=True))
