"""Giving up an invoice that nobody will pay: Stripe stops collecting, the ledger writes the debt off.

Should it be paid after all, `invoices.receive` undoes the write-off before it collects.
"""

from datetime import datetime
from functools import partial

from django.db import transaction

from billing_portal.billing import crediting, gateway, intents, invoices, minor_units
from billing_portal.billing.models import Invoice
from billing_portal.ledger import accounts, balances, write_offs
from billing_portal.ledger.models import Account, Transaction, WriteOff

State = Invoice.State
_CAN_BE_GIVEN_UP = {State.OPEN, State.UNCOLLECTIBLE}


class NotGivenUp(Exception):
    """The invoice is not one that can be given up: it is a draft, paid or void, or bills no usage."""

    def __init__(self, invoice: Invoice) -> None:
        super().__init__(f"{invoice} is {invoice.get_state_display().lower()}: there is no debt to write off.")
        self.invoice = invoice


def stop_collecting(invoice: Invoice, *, now: datetime) -> Invoice:
    """Tell Stripe that the invoice is uncollectible, so that it charges nobody any more; safe to repeat.

    Raises NotGivenUp, and what the gateway raises.
    """
    if invoice.state not in _CAN_BE_GIVEN_UP or invoices.usage_month(invoice) is None:
        raise NotGivenUp(invoice)
    if invoice.state == State.OPEN:
        intents.perform(
            organization=invoice.organization,
            verb="mark invoice uncollectible",
            reference=f"give_up:{invoice.stripe_invoice_id}",
            params={},
            call=partial(gateway.act, "invoices", "mark_uncollectible", invoice.stripe_invoice_id),
            look_up=lambda: _unless_open(invoice),
            again=True,
            now=now,
        )
    return invoices.receive(gateway.retrieve("invoices", invoice.stripe_invoice_id), now=now)


def owed_micros(invoice: Invoice, *, now: datetime) -> int:
    """Return the accrued usage that an unpaid invoice bills, before tax; none once it is written off."""
    account = Account.objects.get(organization=invoice.organization)
    if write_offs.given_up(invoice.organization_id, invoices.collect_reference(invoice)).exists():
        return 0
    credited, _ = crediting.issued(invoice)
    billed = invoices.accrued_micros(invoice) - minor_units.to_micros(credited, invoice.currency)
    return max(0, min(billed, balances.balance(account, now=now).accrued_micros))


def write_off(invoice: Invoice, *, reason: str, reference: str, now: datetime) -> Transaction:
    """Write off the usage that an uncollectible invoice bills, once per `reference`.

    Raises NotGivenUp before Stripe stopped collecting, write_offs.AlreadyGivenUp, and MoreThanOwed if nothing is owed.
    """
    with transaction.atomic():
        accounts.lock(invoice.organization_id)
        invoice.refresh_from_db()
        month = invoices.usage_month(invoice)
        if invoice.state != State.UNCOLLECTIBLE or month is None:
            raise NotGivenUp(invoice)
        known = WriteOff.objects.filter(organization=invoice.organization, transaction__reference=reference).first()
        return write_offs.write_off(
            organization=invoice.organization,
            month=month,
            micros=known.micros if known else owed_micros(invoice, now=now),
            debt=invoices.collect_reference(invoice),
            reason=reason,
            reference=reference,
            now=now,
        )


def _unless_open(invoice: Invoice) -> gateway.Object | None:
    found = gateway.retrieve("invoices", invoice.stripe_invoice_id)
    return found if found["status"] != "open" else None
