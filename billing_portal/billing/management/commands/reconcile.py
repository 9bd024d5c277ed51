"""`manage.py reconcile`: prove that invoices agree with the calls, or name what does not."""

import argparse
import json
from collections.abc import Iterator
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q
from rich.console import Console
from rich.table import Table

from accounts import clock
from accounts.models import Organization
from billing_portal.billing import interims, invoices, minor_units, reconciliation
from billing_portal.billing.call_audit import Difference
from billing_portal.billing.expected_lines import LineReconciliation
from billing_portal.billing.models import Invoice
from billing_portal.billing.reconciliation import InvoiceReconciliation

_NARROWEST = 150


class Command(BaseCommand):
    help = "Compare every invoice, line by line, with the calls behind it; exit 1 on any difference."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--organization", metavar="REF", help="only this organization, by its reference")
        parser.add_argument("--period", type=_month, metavar="YYYY-MM", help="only the invoices of this month's usage")
        parser.add_argument(
            "--quick", action="store_true", help="compare totals; rate no call anew, ask Stripe nothing"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")

    def handle(self, *args: Any, **options: Any) -> None:
        organizations = _organizations(options["organization"])
        console = Console(file=self.stdout, soft_wrap=False, highlight=False)  # type: ignore[arg-type]
        console.width = max(console.width, _NARROWEST)
        documents, differences = [], 0
        for organization in organizations:
            for result in _reconcile(organization, options["period"], deep=not options["quick"]):
                differences += len(result.differences)
                if options["json"]:
                    documents.append(_document(organization, result))
                else:
                    _print(console, organization, result)
        unbilled = list(_unbilled(organizations, options["period"]))
        differences += len(unbilled)
        if options["json"]:
            self.stdout.write(
                json.dumps({"invoices": documents, "unbilled": [_difference(d) for d in unbilled]}, indent=2)
            )
        else:
            _print_differences(console, unbilled)
            console.print(f"{differences or 'No'} difference{'' if differences == 1 else 's'}.")
        if differences:
            raise CommandError(f"{differences} differences between invoices and usage.", returncode=1)


def _month(text: str) -> date:
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a month like 2026-10.") from error


def _organizations(reference: str | None) -> list[Organization]:
    organizations = Organization.objects.order_by("id")
    if reference is None:
        return list(organizations)
    found = list(organizations.filter(reference=reference))
    if not found:
        raise CommandError(f"There is no organization {reference!r}.", returncode=2)
    return found


def _reconcile(organization: Organization, month: date | None, *, deep: bool) -> Iterator[InvoiceReconciliation]:
    invoices = Invoice.objects.filter(organization=organization).exclude(state=Invoice.State.VOID)
    if month is not None:
        invoices = invoices.filter(Q(month=month) | Q(interim__month=month))
    for invoice in invoices.order_by("drafted_at", "id"):
        yield reconciliation.reconcile_invoice(invoice, deep=deep)


def _unbilled(organizations: list[Organization], month: date | None) -> Iterator[Difference]:
    references = {organization.pk: organization.reference for organization in organizations}
    for organization_id, unbilled_month, micros in reconciliation.unbilled(now=clock.now()):
        if organization_id in references and month in (None, unbilled_month):
            subject = f"{references[organization_id]} {unbilled_month:%Y-%m}"
            yield Difference("invoice", subject, micros, 0, "No invoice bills this month.")


# ── Tables ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _print(console: Console, organization: Organization, result: InvoiceReconciliation) -> None:
    invoice = result.invoice
    month = f"{_period(invoice) or 'no usage month'}{' interim' if interims.of_invoice(invoice) else ''}"
    console.print(f"{organization.reference}  {month}  {invoice}  {invoice.get_state_display()}", style="bold")
    if invoice.waiting_for:
        console.print(f"waits: {invoice.waiting_for}")
    if result.lines:
        console.print(_table(result, invoice.currency))
    _print_differences(console, result.differences)
    console.print()


def _period(invoice: Invoice) -> str | None:
    """Return the month of usage that an invoice bills, in whole or so far."""
    month = invoices.usage_month(invoice)
    return f"{month:%Y-%m}" if month else None


def _table(result: InvoiceReconciliation, currency: str) -> Table:
    table = Table(box=None, pad_edge=False, show_footer=True)
    total = [_amount(minor, currency) for minor in (result.stripe_total_minor, result.our_total_minor)]
    difference = _amount(result.stripe_total_minor - result.our_total_minor, currency)
    table.add_column("Line", "Total")
    table.add_column("Calls", justify="right")
    table.add_column("Stripe quantity", justify="right")
    table.add_column("Our quantity", justify="right")
    table.add_column(f"Stripe {currency}", total[0], justify="right")
    table.add_column(f"Our {currency}", total[1], justify="right")
    table.add_column("Difference", difference, justify="right")
    for line in result.lines:
        table.add_row(*_cells(line, currency))
    return table


def _cells(line: LineReconciliation, currency: str) -> tuple[str, ...]:
    return (
        line.label,
        f"{line.calls:,}",
        "–" if line.stripe_quantity is None else f"{line.stripe_quantity:,}",
        "–" if line.our_quantity is None else f"{line.our_quantity:,}",
        _amount(line.stripe_amount_minor, currency),
        _amount(line.our_amount_minor, currency),
        _amount(line.amount_difference_minor, currency),
    )


def _print_differences(console: Console, differences: list[Difference]) -> None:
    for difference in differences:
        console.print(f"DIFFERENCE  {difference}", markup=False, soft_wrap=True)


def _amount(minor: int, currency: str) -> str:
    """Return minor units with the currency's own number of decimals."""
    digits = minor_units.exponent(currency)
    whole, rest = divmod(abs(minor), 10**digits)
    sign = "-" if minor < 0 else ""
    return f"{sign}{whole:,}.{rest:0{digits}d}" if digits else f"{sign}{whole:,}"


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _document(organization: Organization, result: InvoiceReconciliation) -> dict[str, Any]:
    invoice = result.invoice
    return {
        "organization": organization.reference,
        "period": _period(invoice),
        "is_interim": interims.of_invoice(invoice) is not None,
        "invoice": invoice.stripe_invoice_id,
        "number": invoice.number,
        "state": invoice.state,
        "currency": invoice.currency,
        "lines": [_line(line) for line in result.lines],
        "differences": [_difference(difference) for difference in result.differences],
    }


def _line(line: LineReconciliation) -> dict[str, Any]:
    return {
        "line": line.line.stripe_line_id if line.line else None,
        "kind": line.kind,
        "component": line.component,
        "grant_kind": line.grant_kind,
        "calls": line.calls,
        "stripe_quantity": line.stripe_quantity,
        "our_quantity": line.our_quantity,
        "stripe_amount_minor": line.stripe_amount_minor,
        "our_amount_minor": line.our_amount_minor,
        "difference_minor": line.amount_difference_minor,
    }


def _difference(difference: Difference) -> dict[str, Any]:
    return {
        "level": difference.level,
        "subject": difference.subject,
        "ours": difference.ours,
        "theirs": difference.theirs,
        "cause": difference.cause,
    }
