"""How the story ended: one row an organization, and whether anything differs."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q

from accounts.models import Organization
from billing_portal.billing import minor_units, reconciliation
from billing_portal.billing.models import Invoice
from billing_portal.ledger import totals, verification
from usage.models import Call, OutcomeCharge


@dataclass(frozen=True, slots=True)
class Row:
    """Amounts in micros. `difference_micros` is how far Stripe's quantities and amounts are from the calls' own."""

    name: str
    calls: int
    outcomes: int
    gross_micros: int
    burnt_micros: int
    stripe_micros: int
    paid_micros: int
    difference_micros: int
    differences: tuple[str, ...]
    unpaid: int
    interims: int

    def cells(self) -> tuple[str, ...]:
        """Return the row as the table prints it: amounts to the cent, the difference to the micro."""
        amounts = (self.gross_micros, self.burnt_micros, self.stripe_micros, self.paid_micros)
        printed = (f"{micros / 1_000_000:,.2f}" for micros in amounts)
        return (self.name, f"{self.calls:,}", f"{self.outcomes:,}", *printed, f"{self.difference_micros:,}")


def rows(organizations: Iterable[Organization]) -> list[Row]:
    """Return a row for each organization, its invoices of usage reconciled down to the single call."""
    return [_row(organization) for organization in organizations]


def total(rows: list[Row]) -> Row:
    """Return the sum of all rows; the demo has one currency."""
    return Row(
        name="Total",
        calls=sum(row.calls for row in rows),
        outcomes=sum(row.outcomes for row in rows),
        gross_micros=sum(row.gross_micros for row in rows),
        burnt_micros=sum(row.burnt_micros for row in rows),
        stripe_micros=sum(row.stripe_micros for row in rows),
        paid_micros=sum(row.paid_micros for row in rows),
        difference_micros=sum(row.difference_micros for row in rows),
        differences=tuple(difference for row in rows for difference in row.differences),
        unpaid=sum(row.unpaid for row in rows),
        interims=sum(row.interims for row in rows),
    )


def _row(organization: Organization) -> Row:
    of_usage = Q(month__isnull=False) | Q(interim__isnull=False)
    invoices = list(Invoice.objects.filter(of_usage, organization=organization).exclude(state=Invoice.State.VOID))
    checked = [reconciliation.reconcile_invoice(invoice, deep=True) for invoice in invoices]
    months = [totals.month(organization.pk, invoice.month) for invoice in invoices if invoice.month]
    found = [str(difference) for result in checked for difference in result.differences]
    found += [str(discrepancy) for discrepancy in verification.verify(organization.pk)]
    return Row(
        name=organization.name,
        calls=Call.objects.filter(organization=organization).count(),
        outcomes=OutcomeCharge.objects.filter(organization=organization, kind="charge", sequence__gt=0).count(),
        gross_micros=sum(month.gross_micros for month in months),
        burnt_micros=sum(month.burnt_micros for month in months),
        stripe_micros=sum(_micros(invoice, invoice.total_minor) for invoice in invoices),
        paid_micros=sum(_micros(invoice, _paid_minor(invoice)) for invoice in invoices),
        difference_micros=sum(_difference_micros(result) for result in checked),
        differences=tuple(found),
        unpaid=sum(invoice.state != Invoice.State.PAID for invoice in invoices),
        interims=sum(invoice.month is None for invoice in invoices),
    )


def _difference_micros(result: reconciliation.InvoiceReconciliation) -> int:
    """Add up, without regard to sign, how far quantities (micros) and amounts (minor units) are apart."""
    quantities = sum(abs(line.quantity_difference) for line in result.lines)
    amounts = sum(abs(_micros(result.invoice, line.amount_difference_minor)) for line in result.lines)
    return quantities + amounts


def _paid_minor(invoice: Invoice) -> int:
    """Return what came in for an invoice itself: what was carried over to the next one counts here, and not there."""
    return invoice.amount_paid_minor + (invoice.ending_balance_minor or 0) - invoice.starting_balance_minor


def _micros(invoice: Invoice, minor: int) -> int:
    return minor_units.to_micros(minor, invoice.currency)
