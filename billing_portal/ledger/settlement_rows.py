"""The rows that a settlement writes, for many organizations by a statement each: what was settled, burnt and posted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db import connection

from billing_portal.ledger import journal
from billing_portal.ledger.allocation import Allocation
from billing_portal.ledger.models import Account, Grant, Settlement, Transaction
from usage import columns


@dataclass(frozen=True, slots=True)
class Funded:
    """The next charges of an account and who pays for them; `grants` are those that `allocated` counts by place."""

    account: Account
    source: Settlement.Source
    month: date
    charges: int
    grants: Sequence[Grant]
    allocated: Allocation

    @property
    def first_sequence(self) -> int:
        return self.account.last_sequence + 1

    @property
    def last_sequence(self) -> int:
        return self.account.last_sequence + self.charges

    @property
    def reference(self) -> str:
        return f"settle:{self.first_sequence}-{self.last_sequence}"

    @property
    def gross_micros(self) -> int:
        return self.allocated.gross.total()

    @property
    def accrued_micros(self) -> int:
        return self.allocated.accrued.total()

    def taken(self) -> list[tuple[Grant, int]]:
        """Return what each grant paid, in burn order."""
        taken: Counter[int] = Counter()
        for (place, _), micros in self.allocated.burnt.items():
            taken[place] += micros
        return [(self.grants[place], micros) for place, micros in sorted(taken.items())]

    def posting(self) -> journal.Posting:
        sides = [journal.Side(journal.Book.CREDIT, -micros, grant) for grant, micros in self.taken()]
        sides.append(journal.Side(journal.Book.RECEIVABLE, -self.accrued_micros))
        sides.append(journal.Side(journal.Book.USAGE, self.gross_micros))
        return journal.Posting(self.account, self.reference, sides)


_SETTLE = """
    WITH settled AS (
        INSERT INTO ledger_settlement
            (organization_id, source, month, first_sequence, last_sequence, gross_micros, accrued_micros, settled_at)
        SELECT organization_id, source, month, first, last, gross, accrued, %(now)s
        FROM unnest(%(organizations)s::bigint[], %(sources)s::text[], %(months)s::date[], %(firsts)s::bigint[],
                    %(lasts)s::bigint[], %(gross)s::bigint[], %(accrued)s::bigint[])
             AS batch (organization_id, source, month, first, last, gross, accrued)
        RETURNING id, organization_id
    ), lines AS (
        INSERT INTO ledger_settlementline (organization_id, settlement_id, component, gross_micros, accrued_micros)
        SELECT settled.organization_id, settled.id, component, gross, accrued
        FROM unnest(%(line_organizations)s::bigint[], %(line_components)s::text[], %(line_gross)s::bigint[],
                    %(line_accrued)s::bigint[]) AS line (organization_id, component, gross, accrued)
        JOIN settled ON settled.organization_id = line.organization_id
    ), burns AS (
        INSERT INTO ledger_burn (organization_id, settlement_id, grant_id, component, micros)
        SELECT settled.organization_id, settled.id, burn.grant_id, component, micros
        FROM unnest(%(burn_organizations)s::bigint[], %(burn_grants)s::bigint[], %(burn_components)s::text[],
                    %(burn_micros)s::bigint[])
             WITH ORDINALITY AS burn (organization_id, grant_id, component, micros, place)
        JOIN settled ON settled.organization_id = burn.organization_id ORDER BY place
    ), grants AS (
        UPDATE ledger_grant SET remaining_micros = remaining_micros - taken.micros
        FROM unnest(%(grant_organizations)s::bigint[], %(grant_ids)s::bigint[], %(grant_micros)s::bigint[])
             AS taken (organization_id, grant_id, micros)
        WHERE ledger_grant.id = taken.grant_id AND ledger_grant.organization_id = taken.organization_id
    )
    UPDATE ledger_account SET last_sequence = batch.last
    FROM unnest(%(organizations)s::bigint[], %(lasts)s::bigint[]) AS batch (organization_id, last)
    WHERE ledger_account.organization_id = batch.organization_id"""


def write(funded: Sequence[Funded], *, now: datetime) -> None:
    """Write the settlements with lines and burns in burn order, lower the grants, number on, and post to the journal.

    At most one of each account, under its lock.
    """
    batches = [
        (
            each.account.organization_id,
            str(each.source),
            each.month,
            each.first_sequence,
            each.last_sequence,
            each.gross_micros,
            each.accrued_micros,
        )
        for each in funded
    ]
    lines = [
        (each.account.organization_id, component, gross, each.allocated.accrued[component])
        for each in funded
        for component, gross in sorted(each.allocated.gross.items())
        if gross
    ]
    burns = [
        (each.account.organization_id, each.grants[place].pk, component, micros)
        for each in funded
        for (place, component), micros in sorted(each.allocated.burnt.items())
    ]
    taken = [(each.account.organization_id, grant.pk, micros) for each in funded for grant, micros in each.taken()]
    values: dict[str, Any] = {
        "now": now,
        **columns.of(("organizations", "sources", "months", "firsts", "lasts", "gross", "accrued"), batches),
        **columns.of(("line_organizations", "line_components", "line_gross", "line_accrued"), lines),
        **columns.of(("burn_organizations", "burn_grants", "burn_components", "burn_micros"), burns),
        **columns.of(("grant_organizations", "grant_ids", "grant_micros"), taken),
    }
    with connection.cursor() as cursor:
        cursor.execute(_SETTLE, values)
    journal.post_all([each.posting() for each in funded], kind=Transaction.Kind.SETTLE, now=now)
