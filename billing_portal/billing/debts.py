"""What went back of earlier payments, on the next month's invoice: one line an invoice whose payment it was.

A lost chargeback, a refund without a credit note and credit that was refunded after it was spent are owed again
(`claims`). The ledger says how much; here it is billed, exactly once: a line is what is owed of its source less what
earlier lines bill, so several that follow each other come to one rounding of the whole.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

import structlog
from django.db import transaction
from django.db.models import QuerySet, Sum

from billing_portal.billing import claims, gateway, intents, invoice_lines, minor_units
from billing_portal.billing.models import DebtLine, Invoice, InvoiceLine
from billing_portal.ledger import accounts
from billing_portal.ledger import claims as books

log = structlog.get_logger(__name__)


def lines_of(invoice: Invoice) -> QuerySet[DebtLine]:
    """Return the debts that an invoice bills."""
    of_invoice = DebtLine.objects.filter(organization_id=invoice.organization_id, invoice=invoice)
    return of_invoice.select_related("source").order_by("id")


def micros(invoice: Invoice) -> int:
    """Return what the debts on an invoice come to, before tax."""
    return int(lines_of(invoice).aggregate(sum=Sum("micros"))["sum"] or 0)


def due_minor(invoice: Invoice) -> list[int]:
    """Return the amounts of the lines that belong on it."""
    return [line.amount_minor for line in lines_of(invoice) if line.amount_minor]


def put_on(invoice: Invoice, *, now: datetime) -> None:
    """Put what is owed again on a month's draft, each source once; a crash in between is made good by the next call.

    What is claimed later is for the next invoice. Raises what `accounts.lock` and the gateway raise.
    """
    _write(invoice, now=now)
    for line in lines_of(invoice).exclude(amount_minor=0):
        _create_item(invoice, line, now=now)


def mismatch(invoice: Invoice, lines: Sequence[InvoiceLine]) -> str:
    """Say where `lines`, those of Stripe's draft, bill other debts than are due; empty if all is well."""
    theirs = sorted(line.amount_minor for line in lines if line.kind == InvoiceLine.Kind.DEBT)
    ours = sorted(due_minor(invoice))
    return "" if ours == theirs else f"The draft bills {sum(theirs)} instead of {sum(ours)} of what is owed again."


def label(line: DebtLine) -> str:
    """Return what the line is called on the invoice."""
    source = f"invoice {line.source.number}" if line.source.number else "an earlier invoice"
    return f"Owed again: the payment of {source} went back"


def _write(invoice: Invoice, *, now: datetime) -> None:
    """Note what a draft bills of each source of which more is owed than is billed, under the account's lock."""
    with transaction.atomic():
        account = accounts.lock(invoice.organization_id)
        draft = Invoice.objects.filter(pk=invoice.pk, state=Invoice.State.DRAFT, month__isnull=False)
        if not draft.exists():
            return
        on_it = set(lines_of(invoice).values_list("source_id", flat=True))
        for source in claims.touched(invoice.organization_id):
            owed_micros = books.owed(account, claims.subject_of(source))
            billed_micros, billed_minor = _billed(source)
            more = owed_micros - billed_micros
            if not more or source.pk in on_it:
                continue
            amount_minor = minor_units.from_micros(owed_micros, invoice.currency) - billed_minor
            DebtLine.objects.create(
                organization=invoice.organization,
                invoice=invoice,
                source=source,
                micros=more,
                amount_minor=amount_minor,
                basis=claims.basis(source)
                | {"billed_micros": billed_micros, "billed_minor": billed_minor, "owed_micros": owed_micros},
                written_at=now,
            )
            log.info("debt billed", organization_id=invoice.organization_id, invoice_id=invoice.pk, minor=amount_minor)


def _billed(source: Invoice) -> tuple[int, int]:
    """Return the micros and minor units that invoices which stand bill of a source."""
    lines = DebtLine.objects.filter(organization_id=source.organization_id, source=source)
    sums = lines.exclude(invoice__state=Invoice.State.VOID).aggregate(micros=Sum("micros"), minor=Sum("amount_minor"))
    return int(sums["micros"] or 0), int(sums["minor"] or 0)


def _create_item(invoice: Invoice, line: DebtLine, *, now: datetime) -> str:
    """Put one line on the draft, once; its tax behaviour is the credit lines': the account's default."""
    metadata = {"line": str(InvoiceLine.Kind.DEBT), "source": line.source.stripe_invoice_id}
    return intents.perform(
        organization=invoice.organization,
        verb="create debt line",
        reference=f"debt:{invoice.stripe_invoice_id}:{line.source.stripe_invoice_id}",
        params={
            "customer": invoice.organization.customer.stripe_customer_id,
            "invoice": invoice.stripe_invoice_id,
            "amount": line.amount_minor,
            "currency": invoice.currency.lower(),
            "description": label(line),
            "metadata": metadata,
        },
        call=partial(gateway.create, "invoice_items"),
        look_up=lambda: invoice_lines.find_item(invoice, metadata),
        again=True,
        now=now,
    )
