"""Our own rows of an invoice's lines, from Stripe's paginated endpoint: the mirror's lines are not kept up to date."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction

from billing_portal.billing import gateway
from billing_portal.billing.models import Invoice, InvoiceLine, MeterPrice
from billing_portal.ledger.models import Grant
from usage.models import Component

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


def read(line: Mapping[str, Any], invoice: Invoice, position: int, components: Mapping[str, str]) -> InvoiceLine:
    """Return one Stripe line as ours. `components` names the component of each of our metered prices.

    A line is usage by its price and credit by the metadata that we put on its invoice item; anything else is other.
    """
    metadata = line.get("metadata") or {}
    component = components.get(_price_id(line), "")
    kind, grant_kind = (InvoiceLine.Kind.USAGE if component else InvoiceLine.Kind.OTHER), ""
    if (
        not component
        and metadata.get("grant_kind") in Grant.Kind.values
        and metadata.get("component") in Component.values
    ):
        kind, grant_kind, component = InvoiceLine.Kind.CREDIT, metadata["grant_kind"], metadata["component"]
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
