"""The journal as a customer reads it: month by month, every movement of credit and debt with the balances after it."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from django.db import connection
from django.db.models import Sum

from billing_portal.ledger import balances
from billing_portal.ledger.models import Account, Grant, Transaction
from usage import periods

Kind = Transaction.Kind


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One movement: signed micros of credit and of what is owed, and both after it.

    Usage has no transaction of its own here: all that was settled in a day, between two other movements, is one line.
    """

    occurred_at: datetime
    kind: Kind
    transaction: Transaction | None
    grant: Grant | None
    credit_micros: int
    owed_micros: int
    credit_after_micros: int
    owed_after_micros: int

    @property
    def label(self) -> str:
        """What a customer calls it."""
        if self.transaction is None:
            return "Usage"
        if self.grant is None:
            undone = Kind(self.transaction.reverses.kind) if self.transaction.reverses else None
            return f"{_DEBT[undone]} undone" if undone else _DEBT[self.kind]
        is_given_back = self.transaction.reverses_id or (self.kind == Kind.CLAIM and self.credit_micros > 0)
        verb = "given back" if is_given_back else _CREDIT[self.kind]
        return f"{self.grant.get_kind_display()} {verb}".strip()

    @property
    def is_by_staff(self) -> bool:
        """Whether one of the vendor's staff did it."""
        return self.transaction is not None and self.transaction.reference.startswith(_STAFF)

    @property
    def reason(self) -> str:
        """Why a person did it; empty for what happens by itself."""
        if self.transaction is None:
            return ""
        given = self.grant.reason if self.grant and self.kind == Kind.GRANT else ""
        return self.transaction.reason or given


@dataclass(frozen=True, slots=True)
class Statement:
    """One calendar month in the organization's zone. Opening balances + all lines = closing balances."""

    month: date
    lines: list[StatementLine]  # the newest first
    opening_credit_micros: int
    opening_owed_micros: int
    closing_credit_micros: int
    closing_owed_micros: int

    @property
    def has_debt(self) -> bool:
        """Whether anything was owed at all in the month."""
        return bool(
            self.opening_owed_micros or self.closing_owed_micros or any(line.owed_micros for line in self.lines)
        )


# How references of what the staff desk did begin; a grant's is named after its own.
_STAFF = ("staff:", "grant:staff:")
_CREDIT = {
    Kind.GRANT: "",
    Kind.EXPIRE: "expired",
    Kind.REVERSE: "taken back",
    Kind.SET_OFF: "set off against this month's usage",
    Kind.CLAIM: "taken back with its payment",
}
_DEBT = {
    Kind.COLLECT: "Payment",
    Kind.WRITE_OFF: "Forgiven",
    Kind.REVERSE: "Reversal",
    Kind.CREDIT_NOTE: "Credit note",
    Kind.CLAIM: "Payment taken back",
    Kind.DISCOUNT: "Discount",
}

# One row a transaction, except that settlements of one day with nothing else between them share a row.
_MOVEMENTS = """
    WITH moved AS (
        SELECT t.id, t.kind, t.occurred_at,
               coalesce(sum(e.micros) FILTER (WHERE e.book = 'credit'), 0) AS credit,
               coalesce(-sum(e.micros) FILTER (WHERE e.book = 'receivable'), 0) AS owed
        FROM ledger_transaction t JOIN ledger_entry e ON e.transaction_id = t.id
        WHERE t.organization_id = %(id)s AND t.occurred_at >= %(starts_at)s AND t.occurred_at < %(ends_at)s
        GROUP BY t.id
    ), runs AS (
        SELECT *, count(*) FILTER (WHERE kind <> 'settle') OVER (ORDER BY occurred_at, id) AS run FROM moved
    )
    SELECT max(occurred_at), kind, CASE WHEN kind <> 'settle' THEN max(id) END, sum(credit), sum(owed)
    FROM runs
    GROUP BY run, kind, CASE WHEN kind = 'settle' THEN (occurred_at AT TIME ZONE %(zone)s)::date END
    HAVING sum(credit) <> 0 OR sum(owed) <> 0
    ORDER BY max(occurred_at), max(id)"""

_LATER = """
    SELECT coalesce(sum(e.micros) FILTER (WHERE e.book = 'credit'), 0),
           coalesce(-sum(e.micros) FILTER (WHERE e.book = 'receivable'), 0)
    FROM ledger_transaction t JOIN ledger_entry e ON e.transaction_id = t.id
    WHERE t.organization_id = %s AND t.occurred_at >= %s"""

_BY_DAY = """
    SELECT (t.occurred_at AT TIME ZONE %s)::date, g.kind, sum(e.micros)
    FROM ledger_transaction t JOIN ledger_entry e ON e.transaction_id = t.id JOIN ledger_grant g ON g.id = e.grant_id
    WHERE t.organization_id = %s AND t.occurred_at >= %s AND e.book = 'credit' GROUP BY 1, 2"""

_SPENT = """
    SELECT -coalesce(sum(e.micros), 0) FROM ledger_transaction t JOIN ledger_entry e ON e.transaction_id = t.id
    WHERE t.organization_id = %s AND t.occurred_at >= %s AND t.kind = 'settle' AND e.book = 'credit'"""


def of_month(account: Account, month: date, *, zone: tzinfo, now: datetime) -> Statement:
    """Return the statement of one calendar month in `zone`; its cost grows with how long ago the month is."""
    starts_at, ends_at = periods.bounds(month, zone)
    credit_now = _credit_by_kind(account).total()
    owed_now = balances.balance(account, now=now).accrued_micros
    after_credit, after_owed = _moved_since(account, ends_at) if ends_at <= now else (0, 0)
    closing_credit, closing_owed = credit_now - after_credit, owed_now - after_owed
    lines, credit, owed = [], closing_credit, closing_owed
    for occurred_at, kind, posted, credit_moved, owed_moved in reversed(_rows(account, starts_at, ends_at, zone)):
        lines.append(
            StatementLine(
                occurred_at=occurred_at,
                kind=Kind(kind),
                transaction=posted,
                grant=_grant_of(posted),
                credit_micros=credit_moved,
                owed_micros=owed_moved,
                credit_after_micros=credit,
                owed_after_micros=owed,
            )
        )
        credit, owed = credit - credit_moved, owed - owed_moved
    return Statement(
        month=month,
        lines=lines,
        opening_credit_micros=credit,
        opening_owed_micros=owed,
        closing_credit_micros=closing_credit,
        closing_owed_micros=closing_owed,
    )


def credit_by_day(account: Account, *, starts_on: date, ends_on: date, zone: tzinfo) -> dict[tuple[date, str], int]:
    """Return the credit of each kind at the end of each day in `zone`, both days included; nothing where it was zero.

    Derived backward from what is left now, so that it reads only the movements since `starts_on`.
    """
    left = _credit_by_kind(account)
    moved: defaultdict[date, Counter[str]] = defaultdict(Counter)
    with connection.cursor() as cursor:
        cursor.execute(_BY_DAY, [str(zone), account.organization_id, periods.starts_at(starts_on, zone)])
        for day, kind, micros in cursor.fetchall():
            moved[day][kind] = int(micros)
    found = {}
    day = max([ends_on, *moved])
    while day >= starts_on:
        if day <= ends_on:
            found.update({(day, kind): micros for kind, micros in left.items() if micros})
        left.subtract(moved[day])
        day -= timedelta(days=1)
    return found


def spent_since(account: Account, instant: datetime) -> int:
    """Return the credit that usage took from `instant` on, in micros."""
    with connection.cursor() as cursor:
        cursor.execute(_SPENT, [account.organization_id, instant])
        return int(cursor.fetchone()[0])


def _credit_by_kind(account: Account) -> Counter[str]:
    """Return what is left of all grants, by their kind; also of those that expired and were not swept yet."""
    grants = Grant.objects.filter(organization_id=account.organization_id, remaining_micros__gt=0).order_by("kind")
    return Counter({kind: int(left) for kind, left in grants.values_list("kind").annotate(Sum("remaining_micros"))})


def _moved_since(account: Account, instant: datetime) -> tuple[int, int]:
    """Return how credit and debt changed from `instant` on."""
    with connection.cursor() as cursor:
        cursor.execute(_LATER, [account.organization_id, instant])
        credit, owed = cursor.fetchone()
    return int(credit), int(owed)


def _rows(
    account: Account, starts_at: datetime, ends_at: datetime, zone: tzinfo
) -> list[tuple[datetime, str, Transaction | None, int, int]]:
    """Return (when, kind, transaction or None for usage, credit moved, debt moved), the oldest first."""
    span: dict[str, Any] = {
        "id": account.organization_id,
        "starts_at": starts_at,
        "ends_at": ends_at,
        "zone": str(zone),
    }
    with connection.cursor() as cursor:
        cursor.execute(_MOVEMENTS, span)
        rows = cursor.fetchall()
    named = Transaction.objects.select_related("reverses").prefetch_related("entries__grant")
    transactions = named.in_bulk([posted_id for _, _, posted_id, _, _ in rows if posted_id])
    return [
        (occurred_at, kind, transactions.get(posted_id), int(credit), int(owed))
        for occurred_at, kind, posted_id, credit, owed in rows
    ]


def _grant_of(posted: Transaction | None) -> Grant | None:
    if posted is None:
        return None
    return next((entry.grant for entry in posted.entries.all() if entry.grant), None)
