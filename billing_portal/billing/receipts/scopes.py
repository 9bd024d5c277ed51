"""What a receipt covers: the usage of a month as it stood in the books at one place."""

from dataclasses import dataclass
from datetime import date, datetime

from billing_portal.billing import interims
from billing_portal.billing.models import InterimInvoice, Invoice, Receipt
from billing_portal.ledger.models import Account, Period, Transaction
from billing_portal.ledger.totals import Position


class NothingToProve(Exception):
    """The invoice bills no usage: there is nothing that could be recomputed."""

    def __init__(self, invoice: Invoice) -> None:
        super().__init__(f"{invoice} bills no usage of a month.")
        self.invoice = invoice


@dataclass(frozen=True)
class Scope:
    """The invoice, its month, and up to where: later settlements and transactions are not its concern.

    What is read within it never changes once the month is closed, or, for an interim invoice, once that is written. So
    the same bytes come of it today and in ten years.
    """

    invoice: Invoice
    interim: InterimInvoice | None
    month: date
    through: Position
    made_at: datetime

    @property
    def organization_id(self) -> int:
        return self.invoice.organization_id

    @property
    def period(self) -> Period | None:
        """The month in the organization's own zone; none if nothing was ever used in it."""
        return Period.objects.filter(organization_id=self.organization_id, month=self.month).first()

    def interims(self) -> list[InterimInvoice]:
        """Return the interim invoices that the invoice takes into account, in order, at last itself if it is one.

        One that became void later was in force when the invoice was made.
        """
        made = InterimInvoice.objects.filter(organization_id=self.organization_id, month=self.month)
        made = made.filter(last_sequence__lte=self.through.sequence).select_related("invoice")
        return [
            each
            for each in made.order_by("first_sequence", "id")
            if each.state != InterimInvoice.State.VOID or (each.ended_at and each.ended_at > self.made_at)
        ]


def of(invoice: Invoice, *, now: datetime) -> Scope:
    """Return what an invoice's receipt covers when it is made now. Raises NothingToProve.

    A month's own invoice covers all of the closed month; an interim invoice what was settled when it was written.
    """
    interim = interims.of_invoice(invoice)
    if interim is not None:
        through = Position(interim.last_sequence, interim.last_transaction_id)
        return Scope(invoice, interim, interim.month, through, now)
    if invoice.month is None:
        raise NothingToProve(invoice)
    organization_id = invoice.organization_id
    account = Account.objects.filter(organization_id=organization_id).first()
    newest = Transaction.objects.filter(organization_id=organization_id).order_by("-id").values_list("id", flat=True)
    through = Position(account.last_sequence if account else 0, newest.first() or 0)
    return Scope(invoice, None, invoice.month, through, now)


def of_receipt(receipt: Receipt) -> Scope:
    """Return what a receipt that is made covers."""
    through = Position(receipt.through_sequence, receipt.through_transaction_id)
    return Scope(receipt.invoice, interims.of_invoice(receipt.invoice), receipt.month, through, receipt.made_at)
