"""The files of a receipt, as streams of lines: what a month's usage rests on, and what Stripe made of it."""

from collections.abc import Callable, Iterator
from typing import Any

from billing_portal.billing.models import DebtLine, Invoice, InvoiceLine, InvoiceParty, InvoiceTax, Report, ReportBatch
from billing_portal.billing.receipts import canonical
from billing_portal.billing.receipts.books import Books
from billing_portal.billing.receipts.calls import Calls
from billing_portal.billing.receipts.outcomes import Outcomes
from billing_portal.billing.receipts.scopes import Scope

# The formats of heads: the second says of an invoice whom it is made out to, too, the third what earlier payments that
# went back were for. What was signed keeps its own.
FIRST, WITH_PARTY, WITH_DEBTS = 1, 2, 3
CALLS = "calls.jsonl"
PRICES = "prices.jsonl"
Files = list[tuple[str, Callable[[], Iterator[bytes]]]]
_CHUNK = 500


def usage_files(scope: Scope) -> Files:
    """Return the files that the first root stands over, to be written in this order."""
    calls, outcomes, books = Calls(scope), Outcomes(scope), Books(scope)
    return [
        (CALLS, calls.lines),
        (PRICES, calls.price_lines),
        ("outcomes.jsonl", outcomes.lines),
        ("rules.jsonl", outcomes.rule_lines),
        ("buckets.jsonl", outcomes.bucket_lines),
        ("grants.jsonl", books.grant_lines),
        ("ledger.jsonl", books.ledger_lines),
        ("interims.jsonl", lambda: _interims(scope, books)),
        ("reports.jsonl", lambda: _reports(scope)),
    ]


def invoice_files(invoice: Invoice, *, shape: int) -> Files:
    """Return the files that the second root stands over: the lines of the final invoice, and what they come to.

    `shape` is the head's format: from `WITH_PARTY` on, the invoice says whom it is made out to, and its tax by rate,
    from `WITH_DEBTS` on, what stands behind its lines of debts.
    """
    return [
        ("lines.jsonl", lambda: _lines(invoice)),
        ("invoice.jsonl", lambda: iter([canonical.encode(_invoice(invoice, shape))])),
    ]


def shape_of(invoice: Invoice) -> int:
    """Return the format of a head that is signed now: whom the invoice is made out to may not be stored yet."""
    if not InvoiceParty.objects.filter(invoice=invoice).exists():
        return FIRST
    return WITH_DEBTS if _debts(invoice) else WITH_PARTY


def _interims(scope: Scope, books: Books) -> Iterator[bytes]:
    """Yield the line of every interim invoice: which settlements it covers, what it bills, how far it saw the books."""
    for interim in scope.interims():
        lines = interim.lines.order_by("component")
        yield canonical.encode(
            {
                "first": interim.first_sequence,
                "interim": str(interim.public_id),
                "last": interim.last_sequence,
                "ledger_lines": books.lines_through[interim.pk],
                "lines": [[line.component, line.micros, line.amount_minor] for line in lines],
            }
        )


def _reports(scope: Scope) -> Iterator[bytes]:
    """Yield the line of every batch of reports to Stripe's meters: the settlements in it, and what was reported.

    An interim invoice bills what was settled, whether or not it is reported already, and so has none.
    """
    if scope.interim is not None:
        return
    batches = ReportBatch.objects.filter(organization_id=scope.organization_id, month=scope.month).order_by("id")
    for batch in batches.iterator(chunk_size=_CHUNK):
        ranges = batch.settlements.order_by("settlement__first_sequence")
        reports = Report.objects.filter(organization_id=scope.organization_id, batch=batch).order_by("component")
        yield canonical.encode(
            {
                "reports": [[each.component, each.micros, each.identifier] for each in reports],
                "settlements": _joined(
                    ranges.values_list("settlement__first_sequence", "settlement__last_sequence").iterator()
                ),
            }
        )


def _joined(ranges: Iterator[tuple[int, int]]) -> list[list[int]]:
    """Return ranges in order with neighbours made one."""
    joined: list[list[int]] = []
    for first, last in ranges:
        if joined and joined[-1][1] == first - 1:
            joined[-1][1] = last
        else:
            joined.append([first, last])
    return joined


def _lines(invoice: Invoice) -> Iterator[bytes]:
    for line in InvoiceLine.objects.filter(organization_id=invoice.organization_id, invoice=invoice).order_by(
        "position"
    ):
        yield canonical.encode(
            {
                "amount_minor": line.amount_minor,
                "component": line.component,
                "currency": line.currency,
                "description": line.description,
                "grant_kind": line.grant_kind,
                "kind": line.kind,
                "line": line.stripe_line_id,
                "position": line.position,
                "quantity": line.quantity,
            }
        )


def _invoice(invoice: Invoice, shape: int) -> dict[str, Any]:
    found = _amounts(invoice)
    if shape >= WITH_PARTY:
        found |= _party(invoice)
    if shape >= WITH_DEBTS:
        found["debts"] = _debts(invoice)
    return found


def _debts(invoice: Invoice) -> list[dict[str, Any]]:
    """Return what an invoice bills of earlier payments that went back, with what was known of each when it was written.

    Those that were written before that was kept are left out.
    """
    lines = DebtLine.objects.filter(organization_id=invoice.organization_id, invoice=invoice).exclude(basis={})
    return [each.basis | {"amount_minor": each.amount_minor, "micros": each.micros} for each in lines.order_by("id")]


def _party(invoice: Invoice) -> dict[str, Any]:
    """Return whom an invoice is made out to, and its tax by rate, as both were stored with it."""
    party = InvoiceParty.objects.get(invoice=invoice)
    taxes = InvoiceTax.objects.filter(organization_id=invoice.organization_id, invoice=invoice).order_by("position")
    return {
        "customer": {
            "address": party.address,
            "name": party.name,
            "purchase_order": party.purchase_order,
            "tax_ids": party.tax_ids,
        },
        "taxes": [
            {
                "country": tax.country,
                "name": tax.name,
                "net_minor": tax.net_minor,
                "percent": f"{tax.percent:f}",
                "reason": tax.reason,
                "region": tax.region,
                "tax_minor": tax.tax_minor,
            }
            for tax in taxes
        ],
    }


def _amounts(invoice: Invoice) -> dict[str, Any]:
    return {
        "currency": invoice.currency,
        "finalized_at": canonical.instant_or_none(invoice.finalized_at),
        "invoice": invoice.stripe_invoice_id,
        "number": invoice.number,
        "starting_balance_minor": invoice.starting_balance_minor,
        "subtotal_minor": invoice.subtotal_minor,
        "tax_minor": invoice.tax_minor,
        "total_minor": invoice.total_minor,
    }
