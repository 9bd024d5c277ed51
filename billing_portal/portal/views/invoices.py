"""Invoices, and the proof of each: every line beside the calls behind it."""

from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_GET

from accounts import clock, replica
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import amounts_due, interims, reconciliation
from billing_portal.billing.disputes import subjects
from billing_portal.billing.models import (
    Chargeback,
    CreditNote,
    InterimInvoice,
    Invoice,
    InvoicePayment,
    Refund,
)
from billing_portal.billing.tax import automatic
from billing_portal.portal import arrears, discount_words, invoice_party, payment_trouble
from usage import components, rollups
from usage.models import Billable, Component, OutcomeCharge, OutcomeType
from usage.outcomes import billed

_PAGE_SIZE = 50


@require_GET
@organization_view(Permission.VIEW_BILLING)
@replica.reads
def invoices(request: OrganizationRequest) -> HttpResponse:
    """List the invoices, the newest first."""
    rows = Invoice.objects.filter(organization=request.organization).select_related("purchase__offer", "interim")
    rows = rows.order_by("-drafted_at", "-id")
    return render(request, "portal/invoices.html", {"invoices": list(rows[:120])})


@require_GET
@organization_view(Permission.VIEW_BILLING)
@replica.reads
def invoice(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Show one invoice with every line reconciled."""
    found = _invoice(request, invoice)
    interim = interims.of_invoice(found)
    checked = reconciliation.reconcile_invoice(found, deep=False)
    notes = [note for note in checked.credit_notes if note.state in CreditNote.STANDING]
    # Whatever went back went by a payment that is known.
    went_back = InvoicePayment.objects.filter(invoice=found).exists()
    context = {
        "invoice": found,
        "credit_notes": notes,
        "refunds": list(Refund.objects.filter(invoice=found).order_by("-made_at", "-id")) if went_back else [],
        "chargebacks": list(Chargeback.objects.filter(invoice=found).order_by("-opened_at", "-id"))
        if went_back
        else [],
        "credited_minor": -sum(note.total_minor for note in notes),
        "refunded_minor": sum(note.refunded_minor for note in notes),
        "balance_minor": sum(note.balance_minor for note in notes),
        "interim": interim,
        "discounts": discount_words.of_invoice(found, interim.month if interim else found.month),
        "party": invoice_party.of(found),
        "waits_for_address": found.waiting_for == automatic.NO_PLACE,
        "has_amount_due": amounts_due.is_final(found),
        "month_invoice": _month_invoice(interim) if interim else None,
        "interims": list(interims.standing(request.organization.pk, found.month)) if found.month else [],
        "unpaid": arrears.Unpaid(found) if found.open_minor else None,
        "stop": payment_trouble.stop_of(found, payment_trouble.overdue_of(found), now=clock.now()),
        "reconciliation": checked,
        "counted": "Calls, outcomes" if any(line.prices for line in checked.lines) else "Calls",
        "late_micros": _late_micros(found),
    }
    return render(request, "portal/invoice.html", context)


@require_GET
@organization_view(Permission.VIEW_BILLING)
@replica.reads
def invoice_line(request: OrganizationRequest, invoice: UUID, component: str) -> HttpResponse:
    """Show the calls or the outcomes behind one usage line, in the order in which they were settled."""
    found = _invoice(request, invoice)
    if component not in Billable.values:
        raise Http404("No such page.")
    is_outcome = component in OutcomeType.values
    after = _whole_number(request.GET.get("after", "0"))
    interim = interims.of_invoice(found)
    rows = (_outcomes if is_outcome else _charges)(found, interim, component, after=after)
    checked = reconciliation.reconcile_invoice(found, deep=False)
    here = reverse("invoice_line", args=[request.organization.public_id, found.public_id, component])
    context = {
        "invoice": found,
        "interim": interim,
        "component": Billable(component),
        "is_outcome": is_outcome,
        "line": next((each for each in checked.lines if each.opens_calls and each.component == component), None),
        "dispute_reference": subjects.line_reference(found, component),
        "charges": rows[:_PAGE_SIZE],
        "first": here if after else "",
        "next": f"{here}?after={rows[_PAGE_SIZE - 1].sequence}" if len(rows) > _PAGE_SIZE else "",
    }
    template = "portal/invoice_outcomes.html" if is_outcome else "portal/invoice_line.html"
    return render(request, f"{template}#charges" if request.htmx else template, context)


def _late_micros(invoice: Invoice) -> int:
    if invoice.month is None:
        return 0
    of_calls = rollups.late_micros(invoice.organization_id, invoice.month)
    return of_calls + billed.late_micros(invoice.organization_id, invoice.month)


def _outcomes(invoice: Invoice, interim: InterimInvoice | None, outcome: str, *, after: int) -> list[OutcomeCharge]:
    """Return a page of the outcomes behind a line and one more; an interim invoice has those of its settlements."""
    month = interim.month if interim else invoice.month
    if month is None:
        return []
    after, until = (max(after, interim.first_sequence - 1), interim.last_sequence) if interim else (after, None)
    return billed.of_line(invoice.organization_id, month, outcome, after=after, until=until, limit=_PAGE_SIZE + 1)


def _charges(
    invoice: Invoice, interim: InterimInvoice | None, component: str, *, after: int
) -> list[components.ComponentCharge]:
    """Return a page of the calls behind a line and one more; an interim invoice has those of its settlements."""
    month = interim.month if interim else invoice.month
    if month is None:
        return []
    after = max(after, interim.first_sequence - 1) if interim else after
    of_month = components.charges_of(
        organization_id=invoice.organization_id,
        month=month,
        component=Component(component),
        after=after,
        limit=_PAGE_SIZE + 1,
    )
    return [each for each in of_month if interim is None or each.sequence <= interim.last_sequence]


def _month_invoice(interim: InterimInvoice) -> Invoice | None:
    """Return the invoice of the month that an interim invoice comes off, once there is one."""
    of_month = Invoice.objects.filter(organization=interim.organization_id, month=interim.month)
    return of_month.exclude(state=Invoice.State.VOID).first()


def _invoice(request: OrganizationRequest, invoice: UUID) -> Invoice:
    rows = Invoice.objects.select_related("purchase__offer")
    return get_object_or_404(rows, public_id=invoice, organization=request.organization)


def _whole_number(text: str) -> int:
    """Return the number that a paging link carries; anything else begins at the start."""
    return int(text) if text.isdecimal() and len(text) < 19 else 0
