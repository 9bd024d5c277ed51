"""Burnt credit, and discounts, on the invoice: one negative line a kind and component.

Stripe bills the gross of every component; what credit paid for is taken off again. Micros are rounded cumulatively, in
burn order: a line is the rounded sum up to its kind less the rounded sum up to the kind before. So the lines of a
component always add up to one rounding of the whole credit, and full cover gives exactly zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from billing_portal.billing import gateway, intents, invoice_lines, minor_units
from billing_portal.billing.models import CreditLine, Invoice, InvoiceLine
from billing_portal.ledger import totals
from billing_portal.ledger.models import OFF_THE_INVOICE
from usage.models import Billable


@dataclass(frozen=True, slots=True)
class Credit:
    """What one kind of credit, or discounts, take off one component.

    `amount_minor` is positive here and negative on the invoice.
    """

    grant_kind: str
    component: str
    micros: int
    amount_minor: int


def round_cumulatively(burnt: Mapping[tuple[str, str], int], currency: str) -> list[Credit]:
    """Return the credit lines for `burnt` micros by (grant kind, component), in the order of components and kinds.

    Pure. Over all kinds of a component the minor units sum to `from_micros` of the micros' sum.
    """
    lines = []
    for component in Billable.values:
        before = 0
        for kind, _ in OFF_THE_INVOICE:
            micros = burnt.get((kind, component), 0)
            if micros:
                amount = minor_units.from_micros(before + micros, currency) - minor_units.from_micros(before, currency)
                lines.append(Credit(str(kind), component, micros, amount))
                before += micros
    return lines


def due(invoice: Invoice) -> list[Credit]:
    """Return the credit that belongs on the invoice of a month, by the ledger."""
    if invoice.month is None:
        return []
    return round_cumulatively(totals.month(invoice.organization_id, invoice.month).burnt, invoice.currency)


def put_on(invoice: Invoice, *, now: datetime) -> None:
    """Put every credit line that is due on the draft, once each; a crash in between is made good by the next call.

    Call it only for a closed month: its burns no longer change. Raises what the gateway raises.
    """
    for credit in due(invoice):
        line, _ = CreditLine.objects.get_or_create(
            invoice=invoice,
            grant_kind=credit.grant_kind,
            component=credit.component,
            defaults={
                "organization": invoice.organization,
                "micros": credit.micros,
                "amount_minor": credit.amount_minor,
            },
        )
        if line.amount_minor and not line.stripe_invoice_item_id:
            line.stripe_invoice_item_id = _create_item(invoice, line, now=now)
            line.save(update_fields=["stripe_invoice_item_id"])
    Invoice.objects.filter(pk=invoice.pk, credited_at=None).update(credited_at=now)


def mismatch(invoice: Invoice, lines: Sequence[InvoiceLine]) -> str:
    """Say where the credit on `lines`, those of Stripe's draft, is not what is due; empty if all is well."""
    ours = {
        (credit.grant_kind, credit.component): -credit.amount_minor for credit in due(invoice) if credit.amount_minor
    }
    found = [line for line in lines if line.kind == InvoiceLine.Kind.CREDIT]
    theirs = {(line.grant_kind, line.component): line.amount_minor for line in found}
    if len(theirs) != len(found):
        return "The draft has a credit line twice."
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key, 0) != theirs.get(key, 0):
            return f"The draft has {theirs.get(key, 0)} instead of {ours.get(key, 0)} of {label(*key)}."
    return ""


def label(grant_kind: str, component: str) -> str:
    """Return what a credit line is called on the invoice."""
    return f"{dict(OFF_THE_INVOICE)[grant_kind]} · {Billable(component).label}"


def _create_item(invoice: Invoice, line: CreditLine, *, now: datetime) -> str:
    """Put one credit line on the draft, once, and return the id of Stripe's invoice item.

    Stripe takes a negative amount outright, not as a price of a product (its `price_data` wants a positive one), so the
    tax behaviour and code are the account's defaults, which those of the metered products are as well.
    """
    metadata = {"grant_kind": line.grant_kind, "component": line.component}
    return intents.perform(
        organization=invoice.organization,
        verb="create credit line",
        reference=f"credit:{invoice.stripe_invoice_id}:{line.grant_kind}:{line.component}",
        params={
            "customer": invoice.organization.customer.stripe_customer_id,
            "invoice": invoice.stripe_invoice_id,
            "amount": -line.amount_minor,
            "currency": invoice.currency.lower(),
            "description": label(line.grant_kind, line.component),
            "metadata": metadata,
        },
        call=partial(gateway.create, "invoice_items"),
        look_up=lambda: invoice_lines.find_item(invoice, metadata),
        again=True,
        now=now,
    )
