"""The tax report: every final invoice and credit note of a month by rate, for whoever files the returns.

A month is that of the documents' dates in UTC. A credit note is a negative row, split over its invoice's rates as the
invoice is, by largest remainder. A void invoice was never owed: neither it nor its notes are in.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet

from billing_portal.billing import minor_units
from billing_portal.billing.models import CreditNote, Invoice, InvoiceParty, InvoiceTax
from billing_portal.billing.tax import records
from usage import formulas, periods, shares

COLUMNS = (
    "date",
    "document",
    "type",
    "invoice",
    "customer",
    "customer_country",
    "customer_region",
    "tax_id",
    "tax_id_type",
    "tax_country",
    "tax_region",
    "tax_name",
    "net",
    "rate",
    "tax",
    "gross",
    "currency",
    "reason",
)
# How many documents are held in memory at once.
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Row:
    """One document at one rate; amounts are minor units, and negative on a credit note."""

    date: date
    document: str
    is_credit_note: bool
    invoice: Invoice
    party: InvoiceParty
    tax: InvoiceTax
    net_minor: int
    tax_minor: int

    @property
    def gross_minor(self) -> int:
        """What the document comes to at this rate, with tax."""
        return self.net_minor + self.tax_minor

    @property
    def country(self) -> str:
        """The customer's country, as on the document."""
        return str(self.party.address.get("country") or "")

    @property
    def region(self) -> str:
        """The customer's region, as on the document."""
        return str(self.party.address.get("state") or "")


@dataclass(slots=True)
class Total:
    """What a month comes to in one place at one rate, in minor units."""

    country: str
    region: str
    name: str
    percent: Decimal
    reason: str
    currency: str
    documents: int = 0
    net_minor: int = 0
    tax_minor: int = 0

    @property
    def gross_minor(self) -> int:
        """What it comes to with tax."""
        return self.net_minor + self.tax_minor


def rows(month: date) -> Iterator[Row]:
    """Yield the rows of a month: its invoices by date, then its credit notes."""
    starts_at, ends_at = bounds(month)
    invoices = _final().filter(finalized_at__gte=starts_at, finalized_at__lt=ends_at)
    for invoice in invoices.order_by("finalized_at", "id").iterator(chunk_size=_CHUNK):
        yield from _of_invoice(invoice)
    notes = CreditNote.objects.filter(
        state=CreditNote.State.ISSUED, issued_at__gte=starts_at, issued_at__lt=ends_at, invoice__party__isnull=False
    ).exclude(invoice__state=Invoice.State.VOID)
    for note in notes.select_related("invoice__party").order_by("issued_at", "id").iterator(chunk_size=_CHUNK):
        yield from _of_note(note)


def totals(found: Iterable[Row]) -> list[Total]:
    """Add rows up by place, rate and currency, in the order of the places."""
    sums: dict[tuple[Any, ...], Total] = {}
    for row in found:
        tax = row.tax
        key = (tax.country, tax.region, tax.name, tax.percent, tax.reason, row.invoice.currency)
        total = sums.setdefault(key, Total(*key))
        total.documents += 1
        total.net_minor += row.net_minor
        total.tax_minor += row.tax_minor
    return sorted(
        sums.values(), key=lambda each: (each.country, each.region, -each.percent, each.reason, each.currency)
    )


def unstored(month: date) -> int:
    """Return how many final invoices of the month are not in the report yet; the sweep stores them within minutes."""
    starts_at, ends_at = bounds(month)
    return records.missing().filter(finalized_at__gte=starts_at, finalized_at__lt=ends_at).count()


def lines(found: Iterable[Row]) -> Iterator[list[str]]:
    """Yield the lines of a CSV, the head first. Amounts have a point and no sign of the currency."""
    yield list(COLUMNS)
    for row in found:
        yield list(_cells(row))


def bounds(month: date) -> tuple[datetime, datetime]:
    """Return the first instant of a month and of the next one, in UTC."""
    following = periods.next_month(month)
    return datetime(month.year, month.month, 1, tzinfo=UTC), datetime(following.year, following.month, 1, tzinfo=UTC)


def split(note_net_minor: int, note_tax_minor: int, taxes: Sequence[InvoiceTax]) -> list[tuple[int, int]]:
    """Return net and tax of a credit note at each rate of its invoice, by largest remainder. Pure (F43)."""
    nets = _spread(note_net_minor, [tax.net_minor for tax in taxes])
    owed = _spread(note_tax_minor, [tax.tax_minor for tax in taxes])
    return list(zip(nets, owed, strict=True))


def _spread(target: int, weights: Sequence[int]) -> list[int]:
    """Spread over what bears something; where nothing does, the first takes all."""
    sizes = [abs(weight) for weight in weights]
    return shares.spread(target, sizes if sum(sizes) else [1, *([0] * (len(sizes) - 1))])


def _final() -> QuerySet[Invoice]:
    stored = Invoice.objects.filter(party__isnull=False).exclude(state=Invoice.State.VOID)
    return stored.select_related("party").prefetch_related("taxes")


def _of_invoice(invoice: Invoice) -> Iterator[Row]:
    assert invoice.finalized_at is not None
    day = invoice.finalized_at.astimezone(UTC).date()
    for tax in invoice.taxes.all():
        yield Row(day, invoice.number, False, invoice, invoice.party, tax, tax.net_minor, tax.tax_minor)


def _of_note(note: CreditNote) -> Iterator[Row]:
    assert note.issued_at is not None
    day, invoice = note.issued_at.astimezone(UTC).date(), note.invoice
    taxes = list(invoice.taxes.all())
    for tax, (net, owed) in zip(taxes, split(note.net_minor, note.tax_minor, taxes), strict=True):
        if net or owed:
            yield Row(day, note.number, True, invoice, invoice.party, tax, -net, -owed)


def _cells(row: Row) -> Iterator[str]:
    currency, tax = row.invoice.currency, row.tax
    kind, number = row.party.tax_ids[0] if row.party.tax_ids else ("", "")
    net, owed, gross = (minor_units.plain(minor, currency) for minor in (row.net_minor, row.tax_minor, row.gross_minor))
    yield from (f"{row.date:%Y-%m-%d}", formulas.guarded(row.document))
    yield from ("credit_note" if row.is_credit_note else "invoice", formulas.guarded(row.invoice.number))
    yield from map(formulas.guarded, (row.party.name, row.country, row.region, number, kind))
    yield from map(formulas.guarded, (tax.country, tax.region, tax.name))
    yield from (net, f"{tax.percent:f}", owed, gross, currency, tax.reason)
