"""What interim invoices billed, off the month's own invoice: one negative line a component.

The line is what the interim invoices billed, to the minor unit: nothing is rounded here, so nothing is billed twice or
not at all, and tax follows the line. However many there were, a month has as many lines as components.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from billing_portal.billing import gateway, intents, interims, invoice_lines
from billing_portal.billing.models import Invoice, InvoiceLine
from usage.models import Billable

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Deduction:
    """What comes off one component. `amount_minor` is positive here and negative on the invoice."""

    component: str
    amount_minor: int


def due(invoice: Invoice) -> list[Deduction]:
    """Return what belongs off the invoice of a month, by the interim invoices that stand."""
    if invoice.month is None:
        return []
    minor = interims.billed(invoice.organization_id, invoice.month).minor
    return [Deduction(component, minor[component]) for component in Billable.values if minor[component]]


def put_on(invoice: Invoice, *, now: datetime) -> None:
    """Put every line that is due on the draft, once each; a crash in between is made good by the next call.

    Call it only for a closed month without an unfinished interim invoice. Raises what the gateway raises.
    """
    for deduction in due(invoice):
        _create_item(invoice, deduction, now=now)


def mismatch(invoice: Invoice, lines: Sequence[InvoiceLine]) -> str:
    """Say where `lines`, those of Stripe's draft, take off something else than is due; empty if all is well."""
    ours = {deduction.component: -deduction.amount_minor for deduction in due(invoice)}
    found = [line for line in lines if line.kind == InvoiceLine.Kind.DEDUCTION]
    theirs = {line.component: line.amount_minor for line in found}
    if len(theirs) != len(found):
        return "The draft takes off an interim invoice twice."
    for component in sorted(ours.keys() | theirs.keys()):
        if ours.get(component, 0) != theirs.get(component, 0):
            subject = label(component)
            return f"The draft has {theirs.get(component, 0)} instead of {ours.get(component, 0)} of {subject}."
    return ""


def label(component: str) -> str:
    """Return what the line is called."""
    return f"Already invoiced · {Billable(component).label}"


def _create_item(invoice: Invoice, deduction: Deduction, *, now: datetime) -> str:
    """Put one line on the draft, once; its tax behaviour is the credit lines': the account's default."""
    metadata = {"line": str(InvoiceLine.Kind.DEDUCTION), "component": deduction.component}
    reference = f"deduction:{invoice.stripe_invoice_id}:{deduction.component}"
    params = {
        "customer": invoice.organization.customer.stripe_customer_id,
        "invoice": invoice.stripe_invoice_id,
        "amount": -deduction.amount_minor,
        "currency": invoice.currency.lower(),
        "description": f"Already invoiced{_numbers(invoice)} · {Billable(deduction.component).label}",
        "metadata": metadata,
    }
    return intents.perform(
        organization=invoice.organization,
        verb="create deduction line",
        reference=reference,
        params=intents.recorded_params(reference) or params,
        call=partial(gateway.create, "invoice_items"),
        look_up=lambda: invoice_lines.find_item(invoice, metadata),
        again=True,
        now=now,
    )


def _numbers(invoice: Invoice) -> str:
    """Return which invoices billed it, as a part of a sentence; of many only the first and the last."""
    assert invoice.month is not None
    standing = interims.standing(invoice.organization_id, invoice.month)
    numbers = [interim.invoice.number for interim in standing if interim.invoice]
    if len(numbers) > _NAMED:
        return f" on {len(numbers)} invoices from {numbers[0]} to {numbers[-1]}"
    return f" on {', '.join(numbers)}" if numbers else ""
