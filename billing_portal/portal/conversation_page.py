"""One conversation in words: what was charged for it, who paid, on which invoice, and what came back."""

from dataclasses import dataclass
from datetime import date

from django.urls import reverse

from accounts.models import Organization
from billing_portal.billing.models import Invoice
from billing_portal.ledger import outcome_funding
from billing_portal.ledger.models import Bucket
from billing_portal.ledger.outcome_funding import GivenBack, OutcomeFunding
from billing_portal.portal import formats
from usage.models import OutcomeCharge
from usage.outcomes import explanations

_ICONS = {"charge": ("receipt-text", "info"), "reversal": ("undo-2", "good"), "withdrawn": ("circle-slash", "neutral")}


@dataclass(frozen=True, slots=True)
class Entry:
    """A charge or a reversal as the history shows it, with who paid or what came back, and the invoice it is on."""

    charge: OutcomeCharge
    title: str
    icon: str
    tone: str
    parts: list[tuple[str, str, str]]
    invoice: Invoice | None


def history(organization: Organization, charges: list[OutcomeCharge]) -> list[Entry]:
    """Return what was charged for a conversation and given back, the newest first."""
    invoices = _invoices(organization, {each.billed_month for each in charges if each.billed_month})
    return [_entry(organization, each, invoices) for each in reversed(charges)]


def _entry(organization: Organization, charge: OutcomeCharge, invoices: dict[date, Invoice]) -> Entry:
    named = explanations.name_of(charge.outcome)
    is_reversal = charge.kind == OutcomeCharge.Kind.REVERSAL
    icon, tone = _ICONS["withdrawn" if charge.withdrawn_at else charge.kind]
    title = f"{named.capitalize()} {'taken back' if is_reversal else 'charged'}"
    if charge.withdrawn_at:
        title = f"{named.capitalize()} undone before it was charged"
    parts = []
    if is_reversal:
        parts = _given_back(outcome_funding.given_back(charge), organization)
    elif funding := outcome_funding.of_charge(charge):
        parts = _paid(funding, organization)
    invoice = invoices.get(charge.billed_month) if charge.billed_month else None
    return Entry(charge, title, icon, tone, parts, None if is_reversal or charge.bucket_id else invoice)


def _paid(funding: OutcomeFunding, organization: Organization) -> list[tuple[str, str, str]]:
    """Return who paid, how much, and where that is shown."""
    if funding.bucket is not None:
        until = formats.day(funding.bucket.expires_at, organization.zone)
        label = f"Your bucket of {formats.quantity(funding.bucket.size)} until {until}"
        return [(label, "1 unit", _address(organization, funding.bucket))]
    parts = [(grant.get_kind_display(), micros) for grant, micros in funding.grants]
    if funding.accrued_micros or not parts:
        parts.append(("Your card, on the invoice", funding.accrued_micros))
    return [(label, formats.money_exact(micros, organization.currency), "") for label, micros in parts]


def _given_back(back: GivenBack | None, organization: Organization) -> list[tuple[str, str, str]]:
    if back is None:
        return []
    if back.bucket is not None:
        label = f"Back to your bucket of {formats.quantity(back.bucket.size)}"
        return [(label, "1 unit", _address(organization, back.bucket))]
    if back.grant is not None:
        credit = formats.money_exact(back.grant.amount_micros, organization.currency)
        return [("Credit that does not expire", credit, reverse("credits", args=[organization.public_id]))]
    return []


def _address(organization: Organization, bucket: Bucket) -> str:
    return reverse("bucket", args=[organization.public_id, bucket.public_id])


def _invoices(organization: Organization, months: set[date]) -> dict[date, Invoice]:
    of_months = Invoice.objects.filter(organization=organization, month__in=months).exclude(state=Invoice.State.VOID)
    return {invoice.month: invoice for invoice in of_months if invoice.month}
