"""Re-derive every cache of the ledger from the rows it rests on.

All laws are one statement, and so see one instant: what is settled while it runs cannot look like a difference.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

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


# What the calls of each settlement add up to. A range belongs to the last settlement that begins where it does or
# before: one pass over both in the order of their numbers, where comparing each range with each settlement takes the
# square of a year. All ids of a range are of one block of 10,000, which lets calls find their ranges in the same way.
_WITH = """
    WITH numbered AS (
        SELECT max(settlement) OVER (ORDER BY first_sequence) AS settlement, starts_at, ends_at, first_id, last_id
        FROM (SELECT first_sequence, NULL::bigint AS settlement, starts_at, ends_at, first_id, last_id
              FROM usage_callrange WHERE organization_id = %(id)s AND billed_month >= %(since)s
              UNION ALL
              SELECT first_sequence, first_sequence, NULL, NULL, NULL, NULL FROM ledger_settlement
              WHERE organization_id = %(id)s AND month >= %(since)s AND source = 'calls') either
    ), settled AS MATERIALIZED (
        SELECT r.settlement AS first_sequence, count(c.id) AS calls, sum(c.amount_micros) AS micros
        FROM numbered r JOIN usage_call c ON c.organization_id = %(id)s
         AND c.started_at BETWEEN r.starts_at AND r.ends_at AND c.id BETWEEN r.first_id AND r.last_id
         AND (c.id - 1) / 10000 = (r.first_id - 1) / 10000
        GROUP BY 1)
    """

# Each query yields (subject, expected, found) for one organization; a law is broken where the two differ. What is not
# there counts as zero.
_LAWS = {
    "I1 transactions sum to zero": """
        SELECT 'transaction ' || transaction_id, 0, sum(micros) FROM ledger_entry
        WHERE organization_id = %(id)s GROUP BY transaction_id, currency""",
    "I1 everything is in the account's currency": """
        SELECT 'rows in ' || currency, 0, count(*) FROM (
            SELECT currency FROM ledger_entry WHERE organization_id = %(id)s
            UNION ALL SELECT currency FROM ledger_grant WHERE organization_id = %(id)s) rows
        WHERE currency <> (SELECT currency FROM ledger_account WHERE organization_id = %(id)s) GROUP BY currency""",
    "I1 issued = consumed + expired + reversed + remaining": """
        SELECT 'all credit in ' || currency, sum(issued), sum(accounted) FROM (
            SELECT currency, -sum(micros) FILTER (WHERE book = 'issued') AS issued,
                   sum(micros) FILTER (WHERE book IN ('breakage', 'reversed')) AS accounted
            FROM ledger_entry WHERE organization_id = %(id)s GROUP BY currency
            UNION ALL
            SELECT g.currency, 0, b.micros FROM ledger_burn b JOIN ledger_grant g ON g.id = b.grant_id
            WHERE b.organization_id = %(id)s
            UNION ALL
            SELECT g.currency, 0, s.micros FROM ledger_setoff s JOIN ledger_grant g ON g.id = s.grant_id
            WHERE s.organization_id = %(id)s
            UNION ALL
            SELECT currency, 0, remaining_micros FROM ledger_grant WHERE organization_id = %(id)s) credit
        GROUP BY currency""",
    "I1 a reversal is the opposite of what it reverses": """
        SELECT 'transaction ' || id || ', ' || book, 0, sum(micros) FROM (
            SELECT t.id, e.book, e.grant_id, e.micros FROM ledger_transaction t
            JOIN ledger_entry e ON e.transaction_id IN (t.id, t.reverses_id)
            WHERE t.organization_id = %(id)s AND t.reverses_id IS NOT NULL) sides
        GROUP BY id, book, grant_id""",
    "I2 a grant's amount is what was issued": """
        SELECT 'grant ' || g.id, g.amount_micros, sum(e.micros)
        FROM ledger_grant g
        LEFT JOIN (ledger_entry e JOIN ledger_transaction t ON t.id = e.transaction_id AND t.kind = 'grant')
            ON e.grant_id = g.id
        WHERE g.organization_id = %(id)s GROUP BY g.id""",
    "I2 a grant's remainder is the sum of its entries": """
        SELECT 'grant ' || g.id, sum(e.micros), g.remaining_micros
        FROM ledger_grant g LEFT JOIN ledger_entry e ON e.grant_id = g.id
        WHERE g.organization_id = %(id)s GROUP BY g.id""",
    "I2 a grant's burns are what its entries took for usage": """
        SELECT 'grant ' || g.id, journal.micros, burns.micros
        FROM ledger_grant g
        LEFT JOIN (SELECT e.grant_id, -sum(e.micros) AS micros
                   FROM ledger_entry e JOIN ledger_transaction t ON t.id = e.transaction_id
                   WHERE t.kind = 'settle' AND e.organization_id = %(id)s GROUP BY 1) journal ON journal.grant_id = g.id
        LEFT JOIN (SELECT grant_id, sum(micros) AS micros FROM ledger_burn WHERE organization_id = %(id)s GROUP BY 1)
                  burns ON burns.grant_id = g.id
        WHERE g.organization_id = %(id)s""",
    "I2 a grant's set-offs are what its entries took for them": """
        SELECT 'grant ' || g.id, journal.micros, paid.micros
        FROM ledger_grant g
        LEFT JOIN (SELECT e.grant_id, -sum(e.micros) AS micros
                   FROM ledger_entry e JOIN ledger_transaction t ON t.id = e.transaction_id
                   WHERE t.kind = 'set_off' AND e.organization_id = %(id)s GROUP BY 1) journal
             ON journal.grant_id = g.id
        LEFT JOIN (SELECT grant_id, sum(micros) AS micros FROM ledger_setoff WHERE organization_id = %(id)s GROUP BY 1)
                  paid ON paid.grant_id = g.id
        WHERE g.organization_id = %(id)s""",
    "I2 usage in the journal is what was settled": """
        SELECT 'gross', (SELECT sum(gross_micros) FROM ledger_settlement WHERE organization_id = %(id)s),
               (SELECT sum(micros) FROM ledger_entry WHERE organization_id = %(id)s AND book = 'usage')
        UNION ALL
        SELECT 'accrued', (SELECT sum(accrued_micros) FROM ledger_settlement WHERE organization_id = %(id)s),
               (SELECT -sum(e.micros) FROM ledger_entry e JOIN ledger_transaction t ON t.id = e.transaction_id
                WHERE e.organization_id = %(id)s AND e.book = 'receivable' AND t.kind = 'settle')""",
    "I2 what is accrued is the sum of the receivable entries": """
        SELECT 'account', -sum(e.micros), a.accrued_micros
        FROM ledger_account a
        LEFT JOIN ledger_entry e ON e.organization_id = a.organization_id AND e.book = 'receivable'
        WHERE a.organization_id = %(id)s GROUP BY a.id""",
    "I2 a month's spend is the sum of its settlements": """
        SELECT 'spend of ' || month, settled.micros, kept.micros
        FROM (SELECT month, sum(gross_micros) AS micros FROM ledger_settlement
              WHERE organization_id = %(id)s GROUP BY 1) settled
        FULL JOIN (SELECT month, gross_micros AS micros FROM ledger_monthspend WHERE organization_id = %(id)s) kept
             USING (month)""",
    "I2 a month's spend is lowered by what was taken back of it": """
        SELECT 'taken back of ' || month, given.micros, kept.micros
        FROM (SELECT s.month, sum(g.in_month_micros) AS micros FROM ledger_giveback g
              JOIN ledger_settlement s ON s.id = g.settlement_id
              WHERE g.organization_id = %(id)s GROUP BY 1) given
        FULL JOIN (SELECT month, given_back_micros AS micros FROM ledger_monthspend WHERE organization_id = %(id)s) kept
             USING (month)
        UNION ALL
        SELECT 'taken back by grant ' || r.id, r.amount_micros, greatest(r.amount_micros, g.in_month_micros)
        FROM ledger_giveback g JOIN ledger_grant r ON r.id = g.grant_id WHERE g.organization_id = %(id)s""",
    "I2 what is written off is what the journal says": """
        SELECT 'write-off ' || w.id, w.micros, sum(e.micros)
        FROM ledger_writeoff w LEFT JOIN ledger_entry e ON e.transaction_id = w.transaction_id AND e.book = 'receivable'
        WHERE w.organization_id = %(id)s GROUP BY w.id
        UNION ALL
        SELECT 'lines of write-off ' || w.id, w.micros, sum(l.micros)
        FROM ledger_writeoff w JOIN ledger_writeoffline l ON l.write_off_id = w.id
        WHERE w.organization_id = %(id)s GROUP BY w.id""",
    "I2 what discounts took off is what the journal says": """
        SELECT 'discounts of ' || p.month || ', posting ' || p.id,
               (SELECT sum(l.micros) FROM ledger_discountline l WHERE l.posting_id = p.id), sum(e.micros)
        FROM ledger_discountposting p
        LEFT JOIN ledger_entry e ON e.transaction_id = p.transaction_id AND e.book = 'receivable'
        WHERE p.organization_id = %(id)s GROUP BY p.id
        UNION ALL
        SELECT 'discount on ' || l.component || ' of ' || p.month, 0, least(0, sum(l.micros))
        FROM ledger_discountline l JOIN ledger_discountposting p ON p.id = l.posting_id
        WHERE l.organization_id = %(id)s GROUP BY p.month, l.discount, l.component""",
    "I4 no more is forgiven, set off and discounted than was accrued": """
        SELECT forgiven.component || ' of ' || forgiven.month, accrued.micros,
               greatest(accrued.micros, forgiven.micros)
        FROM (SELECT month, component, sum(micros) AS micros FROM (
                  SELECT w.month, l.component, l.micros FROM ledger_writeoffline l
                  JOIN ledger_writeoff w ON w.id = l.write_off_id WHERE w.organization_id = %(id)s
                  AND NOT EXISTS (SELECT FROM ledger_transaction t WHERE t.reverses_id = w.transaction_id)
                  UNION ALL
                  SELECT month, component, micros FROM ledger_setoff WHERE organization_id = %(id)s
                  UNION ALL
                  SELECT p.month, l.component, l.micros FROM ledger_discountline l
                  JOIN ledger_discountposting p ON p.id = l.posting_id WHERE l.organization_id = %(id)s) parts
              GROUP BY 1, 2) forgiven
        LEFT JOIN (SELECT s.month, l.component, sum(l.accrued_micros) AS micros FROM ledger_settlementline l
                   JOIN ledger_settlement s ON s.id = l.settlement_id WHERE s.organization_id = %(id)s
                   GROUP BY 1, 2) accrued USING (month, component)""",
    "I4 settlements follow one another without a gap": """
        SELECT 'settlement from ' || first_sequence,
               1 + coalesce(lag(last_sequence) OVER (ORDER BY first_sequence), 0), first_sequence
        FROM ledger_settlement WHERE organization_id = %(id)s""",
    "I4 the account's last sequence is the last settlement's": """
        SELECT 'account', max(s.last_sequence), a.last_sequence
        FROM ledger_account a LEFT JOIN ledger_settlement s USING (organization_id)
        WHERE a.organization_id = %(id)s GROUP BY a.id""",
    "I4 a settlement's charges are all there": """
        SELECT 'charges of settlement from ' || first_sequence, s.last_sequence - first_sequence + 1, c.calls
        FROM ledger_settlement s LEFT JOIN settled c USING (first_sequence)
        WHERE s.organization_id = %(id)s AND s.month >= %(since)s AND s.source = 'calls'
        UNION ALL
        SELECT 'charges of settlement from ' || s.first_sequence,
               s.last_sequence - s.first_sequence + 1, count(h.id)
        FROM ledger_settlement s LEFT JOIN usage_outcomecharge h ON h.organization_id = s.organization_id
             AND h.sequence BETWEEN s.first_sequence AND s.last_sequence
        WHERE s.organization_id = %(id)s AND s.month >= %(since)s AND s.source = 'outcomes'
        GROUP BY s.id""",
    "I4 a settlement's gross is the sum of its charges": """
        SELECT 'settlement from ' || first_sequence, c.micros, s.gross_micros
        FROM ledger_settlement s LEFT JOIN settled c USING (first_sequence)
        WHERE s.organization_id = %(id)s AND s.month >= %(since)s AND s.source = 'calls'
        UNION ALL
        SELECT 'settlement from ' || s.first_sequence, sum(h.amount_micros), s.gross_micros
        FROM ledger_settlement s LEFT JOIN usage_outcomecharge h ON h.organization_id = s.organization_id
             AND h.sequence BETWEEN s.first_sequence AND s.last_sequence
        WHERE s.organization_id = %(id)s AND s.month >= %(since)s AND s.source = 'outcomes'
        GROUP BY s.id""",
    "I2 a bucket's remainder is the sum of its entries": """
        SELECT 'bucket ' || b.id, sum(e.units), b.remaining_units
        FROM ledger_bucket b LEFT JOIN ledger_bucketentry e ON e.bucket_id = b.id
        WHERE b.organization_id = %(id)s GROUP BY b.id""",
    "I3 a bucket's size is what came into it": """
        SELECT 'bucket ' || b.id, sum(e.units), b.size
        FROM ledger_bucket b
        LEFT JOIN ledger_bucketentry e ON e.bucket_id = b.id
             AND (e.kind = 'bought' OR (e.kind = 'carried' AND e.units > 0))
        WHERE b.organization_id = %(id)s GROUP BY b.id""",
    "F50 what one bucket carries over comes into the one in its place": """
        SELECT 'bucket ' || o.id, gone.units, came.units FROM ledger_bucket o
        LEFT JOIN (SELECT bucket_id, -sum(units) AS units FROM ledger_bucketentry
                   WHERE organization_id = %(id)s AND kind = 'carried' AND units < 0 GROUP BY 1) gone
             ON gone.bucket_id = o.id
        LEFT JOIN (SELECT b.replaces_id, sum(e.units) AS units FROM ledger_bucketentry e
                   JOIN ledger_bucket b ON b.id = e.bucket_id
                   WHERE e.organization_id = %(id)s AND e.kind = 'carried' AND e.units > 0 GROUP BY 1) came
             ON came.replaces_id = o.id
        WHERE o.organization_id = %(id)s""",
    "I2 a bucket's claimed units are those of its entries": """
        SELECT 'bucket ' || b.id, -sum(e.units), b.claimed_units
        FROM ledger_bucket b LEFT JOIN ledger_bucketentry e ON e.bucket_id = b.id AND e.kind = 'claimed'
        WHERE b.organization_id = %(id)s GROUP BY b.id""",
    "F38 a claim takes what it holds of a bucket, as far as it is there": """
        SELECT 'claim on bucket ' || b.id, least(c.held_units, taken.units + b.remaining_units), taken.units
        FROM ledger_bucketclaim c JOIN ledger_bucket b ON b.id = c.bucket_id
        CROSS JOIN LATERAL (SELECT coalesce(-sum(e.units), 0) AS units FROM ledger_bucketentry e
                            WHERE e.organization_id = c.organization_id AND e.claim_id = c.id) taken
        WHERE c.organization_id = %(id)s""",
    "F38 what was used of a bucket whose payment went back is owed": """
        SELECT 'claim on bucket ' || c.bucket_id, owed.units, c.owed_units
        FROM ledger_bucketclaim c JOIN ledger_bucket b ON b.id = c.bucket_id
        CROSS JOIN LATERAL (SELECT greatest(0, c.claimed_units - c.bought_units + coalesce(-sum(e.units), 0)) AS units
                            FROM ledger_bucketentry e
                            WHERE e.bucket_id = b.id AND e.kind IN ('used', 'returned')) owed
        WHERE c.organization_id = %(id)s AND b.replaces_id IS NULL
          AND b.id NOT IN (SELECT replaces_id FROM ledger_bucket
                           WHERE organization_id = %(id)s AND replaces_id IS NOT NULL)
        UNION ALL
        SELECT 'debt for bucket ' || c.bucket_id, worth.micros, owed.micros
        FROM ledger_bucketclaim c JOIN ledger_bucket b ON b.id = c.bucket_id
        CROSS JOIN LATERAL (SELECT div(2 * c.paid_micros::numeric * c.owed_units + c.bought_units,
                                       2 * c.bought_units) AS micros) worth
        CROSS JOIN LATERAL (SELECT coalesce(-sum(e.micros), 0) AS micros FROM ledger_entry e
                            JOIN ledger_transaction t ON t.id = e.transaction_id
                            WHERE e.organization_id = c.organization_id AND e.book = 'receivable'
                              AND t.kind = 'claim' AND starts_with(t.reference, 'claim:' || b.reference || ':')) owed
        WHERE c.organization_id = %(id)s""",
    "I4 a bucket's units are the outcomes that it paid for": """
        SELECT 'bucket ' || b.id, paid.units, taken.units FROM ledger_bucket b
        LEFT JOIN (SELECT bucket_id, sum(CASE kind WHEN 'charge' THEN 1 ELSE -1 END) AS units
                   FROM usage_outcomecharge WHERE organization_id = %(id)s AND bucket_id IS NOT NULL GROUP BY 1) paid
             ON paid.bucket_id = b.id
        LEFT JOIN (SELECT bucket_id, -sum(units) AS units FROM ledger_bucketentry
                   WHERE organization_id = %(id)s AND kind IN ('used', 'returned') GROUP BY 1) taken
             ON taken.bucket_id = b.id
        WHERE b.organization_id = %(id)s""",
    "I4 a reversed outcome was given back once": """
        SELECT 'reversal ' || h.id, o.amount_micros, sum(g.amount_micros)
        FROM usage_outcomecharge h JOIN usage_outcomecharge o ON o.id = h.reverses_id
        LEFT JOIN ledger_grant g ON g.organization_id = h.organization_id AND g.reference = 'outcome-reversal:' || h.id
        WHERE h.organization_id = %(id)s AND h.sequence IS NOT NULL AND h.bucket_id IS NULL AND o.amount_micros > 0
        GROUP BY h.id, o.amount_micros""",
    "I4 a settlement gives back once what its revisions cost less": """
        SELECT 'settlement from ' || s.first_sequence, cheaper.micros, given.micros
        FROM ledger_settlement s
        LEFT JOIN (
            SELECT settled.id, sum(v.given_back_micros) AS micros FROM usage_callrevision v
            JOIN LATERAL (
                SELECT first_sequence + v.id - first_id AS sequence, last_id FROM usage_callrange
                WHERE organization_id = v.organization_id AND first_id <= v.id ORDER BY first_id DESC LIMIT 1
            ) AS r ON r.last_id >= v.id
            JOIN ledger_settlement settled ON settled.organization_id = v.organization_id
             AND r.sequence BETWEEN settled.first_sequence AND settled.last_sequence
            WHERE v.organization_id = %(id)s AND v.given_back_micros > 0 GROUP BY 1) cheaper USING (id)
        LEFT JOIN (
            SELECT b.settlement_id AS id, sum(g.amount_micros) AS micros FROM ledger_giveback b
            JOIN ledger_grant g ON g.id = b.grant_id WHERE b.organization_id = %(id)s GROUP BY 1) given USING (id)
        WHERE s.organization_id = %(id)s""",
    "I4 gross = burnt + accrued, per component": """
        SELECT l.component || ' of settlement ' || l.settlement_id, l.gross_micros,
               l.accrued_micros + coalesce(sum(b.micros), 0)
        FROM ledger_settlementline l
        LEFT JOIN ledger_burn b ON b.settlement_id = l.settlement_id AND b.component = l.component
        WHERE l.organization_id = %(id)s GROUP BY l.id""",
    "I4 a settlement's gross is the sum of its components": """
        SELECT 'settlement from ' || s.first_sequence, s.gross_micros, sum(l.gross_micros)
        FROM ledger_settlement s LEFT JOIN ledger_settlementline l ON l.settlement_id = s.id
        WHERE s.organization_id = %(id)s GROUP BY s.id""",
    "I5 nothing expired was spent": """
        SELECT 'grant ' || g.id, 0, sum(b.micros) FROM ledger_grant g
        JOIN ledger_burn b ON b.grant_id = g.id JOIN ledger_settlement s ON s.id = b.settlement_id
        WHERE g.organization_id = %(id)s AND s.settled_at >= g.expires_at GROUP BY g.id""",
    "I16 no row is another organization's": """
        SELECT 'entries', 0, count(*) FROM ledger_entry e JOIN ledger_transaction t ON t.id = e.transaction_id
        LEFT JOIN ledger_grant g ON g.id = e.grant_id WHERE e.organization_id = %(id)s
        AND (t.organization_id <> e.organization_id OR g.organization_id <> e.organization_id)
        UNION ALL
        SELECT 'burns', 0, count(*) FROM ledger_burn b JOIN ledger_settlement s ON s.id = b.settlement_id
        JOIN ledger_grant g ON g.id = b.grant_id WHERE b.organization_id = %(id)s
        AND (s.organization_id <> b.organization_id OR g.organization_id <> b.organization_id)""",
    "I17 months close in their order": """
        SELECT 'month ' || p.month, 0, 1 FROM ledger_period p
        WHERE p.organization_id = %(id)s AND p.closed_at IS NULL AND p.month < (
            SELECT max(month) FROM ledger_period WHERE organization_id = %(id)s AND closed_at IS NOT NULL)""",
}
_COMPARED = " UNION ALL ".join(
    f"SELECT {number}, subject, coalesce(expected, 0), coalesce(found, 0) FROM ({query}) law (subject, expected, found)"  # noqa: S608 - our own constants
    for number, query in enumerate(_LAWS.values())
)
_ALL = f"{_WITH} SELECT * FROM ({_COMPARED}) laws (law, subject, expected, found) WHERE expected <> found"  # noqa: S608


def verify(organization_id: int, *, since: date = date.min) -> Iterator[Discrepancy]:
    """Yield every difference between the ledger's caches and what they follow from; nothing when all is well.

    Charges are read again for the months from `since` on; everything else from the beginning.
    """
    laws = list(_LAWS)
    with connection.cursor() as cursor:
        cursor.execute(_ALL, {"id": organization_id, "since": since})
        rows = cursor.fetchall()
    for law, subject, expected, found in rows:
        yield Discrepancy(law=laws[law], subject=subject, expected=int(expected), found=int(found))


def organization_ids() -> list[int]:
    """Return all organizations that have books, in order."""
    return list(Account.objects.order_by("organization_id").values_list("organization_id", flat=True))
