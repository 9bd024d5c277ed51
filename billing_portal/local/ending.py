"""How the story ended: one row an organization, and whether anything differs."""

from collections.abc import Iterable
from dataclasses import dataclass

from accounts.models import Organization
from billing_portal.billing import minor_units, reconciliation
from billing_portal.billing.models import Invoice
from billing_portal.ledger import totals, verification
from billing_portal.ledger.models import Period
from usage.models import Charge

_OWN_MONTHS = Invoice.objects.filter(month__isnull=False)


@dataclass(frozen=True, slots=True)
class Row:
    """Amounts in micros of the currency; `difference_micros` is what the rounding of lines does not explain."""

    name: str
    currency: str
    calls: int
    gross_micros: int
    burnt_micros: int
    stripe_micros: int
    paid_micros: int
    difference_micros: int
    differences: tuple[str, ...]
    unpaid: int

    def cells(self) -> tuple[str, ...]:
        """Return the row as the table prints it."""
        amounts = (self.gross_micros, self.burnt_micros, self.stripe_micros, self.paid_micros)
        printed = (f"{micros / 1_000_000:,.2f}" for micros in amounts)
        return (self.name, f"{self.calls:,}", *printed, f"{self.difference_micros}")


def rows(organizations: Iterable[Organization]) -> list[Row]:
    """Return a row for each organization, its invoices reconciled down to the calls."""
    return [_row(organization) for organization in organizations]


def total(rows: list[Row]) -> Row:
    """Return the sum of all rows; the demo has one currency."""
    return Row(
        name="Total",
        currency=rows[0].currency if rows else "",
        calls=sum(row.calls for row in rows),
        gross_micros=sum(row.gross_micros for row in rows),
        burnt_micros=sum(row.burnt_micros for row in rows),
        stripe_micros=sum(row.stripe_micros for row in rows),
        paid_micros=sum(row.paid_micros for row in rows),
        difference_micros=sum(abs(row.difference_micros) for row in rows),
        differences=tuple(itertools_chain(row.differences for row in rows)),
        unpaid=sum(row.unpaid for row in rows),
    )


def itertools_chain(groups: Iterable[tuple[str, ...]]) -> Iterable[str]:
    for group in groups:
        yield from group
