"""Discounts as the customer reads them: how much, for how long, why, and what they took off."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from accounts.models import Organization
from billing_portal.billing import discounts
from billing_portal.billing.models import Discount, Invoice
from billing_portal.portal import formats

_HUNDREDTHS = 100


@dataclass(frozen=True, slots=True)
class Told:
    """One discount in words; `micros` is what it took off, where that is known."""

    size: str
    span: str
    reason: str
    micros: int = 0


def current(organization: Organization, month: date) -> list[Told]:
    """Return the discounts of this month and later ones, in the order in which they are taken."""
    return [_told(each) for each in discounts.current(organization.pk, month)]


def of_invoice(invoice: Invoice, month: date | None) -> list[Told]:
    """Return what each discount took off the month that an invoice bills, in whole or so far."""
    if month is None:
        return []
    return [_told(each.discount, each.micros) for each in discounts.of_month(invoice.organization_id, month)]


def _told(discount: Discount, micros: int = 0) -> Told:
    if discount.percent_hundredths is not None:
        percent = Decimal(discount.percent_hundredths) / _HUNDREDTHS
        size = f"{formats.quantity(percent)}% off"
    else:
        size = f"{formats.money(discount.amount_micros or 0, discount.currency)} off a month"
    return Told(size, _span(discount), discount.reason, micros)


def _span(discount: Discount) -> str:
    first, last = discount.first_month, discounts.last_month(discount)
    if last is None:
        return f"From {formats.month(first)} on"
    if last <= first:
        return f"{formats.month(first)} only"
    return f"{formats.month(first)} to {formats.month(last)}"
