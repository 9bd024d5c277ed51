"""What is owed, and on which invoices: what a page needs to say why usage stops and to offer to pay."""

import uuid
from dataclasses import dataclass, field
from uuid import UUID

from accounts.models import Organization
from billing_portal.billing import interims, invoices
from billing_portal.billing.models import InterimInvoice, Invoice


@dataclass(frozen=True, slots=True)
class Unpaid:
    """An invoice to be paid. `key` is minted with the form that offers it, so that paying twice pays once (F27)."""

    invoice: Invoice
    key: UUID = field(default_factory=uuid.uuid4)


@dataclass(frozen=True, slots=True)
class Arrears:
    """The unpaid invoices, the oldest first; without any, `interim` is one that is being made and charged just now."""

    unpaid: list[Unpaid]
    interim: InterimInvoice | None


def of(organization: Organization) -> Arrears:
    """Return what the organization has still to pay; at most two indexed reads."""
    unpaid = [Unpaid(invoice) for invoice in invoices.unpaid(organization).select_related("overdue")]
    return Arrears(unpaid=unpaid, interim=None if unpaid else interims.being_made(organization.pk))
