"""Our own rows of an invoice's lines, from Stripe's paginated endpoint: the mirror's lines are not kept up to date."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction

from billing_portal.billing import gateway
from billing_portal.billing.models import Invoice, InvoiceLine, MeterPrice
from billing_portal.ledger.models import OFF_THE_INVOICE
from usage.models import Billable

log = structlog.get_logger(__name__)


def fetch(invoice: Invoice) -> list[InvoiceLine]:
    """Return the invoice's lines as Stripe has them now, not saved."""
    prices = MeterPrice.objects.filter(currency=invoice.currency).select_related("meter")
    components = {price.stripe_price_id: price.meter.component for price in prices}
    lines = gateway.list_invoice_lines(invoice.stripe_invoice_id)
    return [read(line, invoice, position, components) for position, line in enumerate(lines, start=1)]


def store(invoice: Invoice) -> int:
    """Store the lines of a finalized invoice, once and all together; return how many were new."""
    if invoice.state == Invoice.State.DRAFT or invoice.lines.exists():
        return 0
    lines = fetch(invoice)
    with transaction.atomic():
        locked = Invoice.objects.select_for_update(of=("self",)).get(pk=invoice.pk)
        if locked.lines.exists():
            return 0
        InvoiceLine.objects.bulk_create(lines)
    log.info("invoice lines stored", invoice_id=invoice.pk, organization_id=invoice.organization_id, lines=len(lines))
    return len(lines)


def find_item(invoice: Invoice, metadata: Mapping[str, str]) -> gateway.Object | None:
    """Return the invoice item on the draft with this metadata, if an earlier attempt made it."""
    items = gateway.list_all("invoice_items", {"invoice": invoice.stripe_invoice_id})
    return next((item for item in items if metadata.items() <= (item.get("metadata") or {}).items()), None)


def read(line: Mapping[str, Any], invoice: Invoice, position: int, components: Mapping[str, str]) -> InvoiceLine:
    """Return one Stripe line as ours. `components` names the component of each of our metered prices.

    A line is usage by its price, and what the metadata that we put on its invoice item says; anything else is other.
    """
    kind, component, grant_kind = _kind_of(line, components)
    return InvoiceLine(
        organization_id=invoice.organization_id,
        invoice=invoice,
        stripe_line_id=line["id"],
        position=position,
        kind=kind,
        component=component,
        grant_kind=grant_kind,
        description=(line.get("description") or "")[:500],
        quantity=_quantity(line),
        amount_minor=line["amount"],
        currency=line["currency"].upper(),
    )


def _kind_of(line: Mapping[str, Any], components: Mapping[str, str]) -> tuple[InvoiceLine.Kind, str, str]:
    """Return a line's kind, component and grant kind; the latter two are empty where there are none."""
    metadata = line.get("metadata") or {}
    component, grant_kind, ours = (metadata.get(name) or "" for name in ("component", "grant_kind", "line"))
    if metered := components.get(_price_id(line)):
        return InvoiceLine.Kind.USAGE, metered, ""
    if component in Billable.values and grant_kind in dict(OFF_THE_INVOICE):
        return InvoiceLine.Kind.CREDIT, component, grant_kind
    if component in Billable.values and ours in {InvoiceLine.Kind.INTERIM, InvoiceLine.Kind.DEDUCTION}:
        return InvoiceLine.Kind(ours), component, ""
    if ours == InvoiceLine.Kind.DEBT:
        return InvoiceLine.Kind.DEBT, "", ""
    return InvoiceLine.Kind.OTHER, "", ""


def _price_id(line: Mapping[str, Any]) -> str:
    """Return the id of the line's price; empty for a line without one. The price may be expanded."""
    price = ((line.get("pricing") or {}).get("price_details") or {}).get("price") or ""
    return str(price["id"] if isinstance(price, Mapping) else price)


def _quantity(line: Mapping[str, Any]) -> int | None:
    """Return the line's whole quantity; None where there is none or it is not whole."""
    quantity = line.get("quantity")
    if quantity is None and line.get("quantity_decimal") is not None:
        quantity = Decimal(str(line["quantity_decimal"]))
    return int(quantity) if quantity is not None and quantity == int(quantity) else None
