"""Invoices, and the proof of each: every line beside the calls behind it."""

import uuid
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts import clock, replica
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import charging, gateway, interims, reconciliation
from billing_portal.billing.disputes import subjects
from billing_portal.billing.models import CreditNote, InterimInvoice, Invoice
from billing_portal.portal import arrears
from usage import components, rollups
from usage.models import Billable, Component, OutcomeCharge, OutcomeType
from usage.outcomes import billed

_PAGE_SIZE = 50
_OTHER_WAYS = "Pay at Stripe with another card, or make another one the default and try again."
_UNKNOWN = (
    "Stripe does not answer at the moment. If the card was charged, you see it here in a minute; trying again is safe."
)


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
    notes = list(found.credit_notes.filter(state__in=CreditNote.STANDING).order_by("id"))
    context = {
        "invoice": found,
        "credit_notes": notes,
        "refunds": list(found.refunds.order_by("-made_at", "-id")),
        "chargebacks": list(found.chargebacks.order_by("-opened_at", "-id")),
        "credited_minor": -sum(note.total_minor for note in notes),
        "refunded_minor": sum(note.refunded_minor for note in notes),
        "balance_minor": sum(note.balance_minor for note in notes),
        "interim": interim,
        "month_invoice": _month_invoice(interim) if interim else None,
        "interims": list(interims.standing(request.organization.pk, found.month)) if found.month else [],
        "unpaid": arrears.Unpaid(found) if found.open_minor else None,
        "reconciliation": checked,
        "counted": "Calls, outcomes" if any(line.prices for line in checked.lines) else "Calls",
        "late_micros": _late_micros(found),
    }
    return render(request, "portal/invoice.html", context)


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def pay(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Charge the default card for an unpaid invoice, once for each form."""
    found = _invoice(request, invoice)
    try:
        paid = charging.pay_now(found, key=str(_key(request)), now=clock.now())
    except charging.NotPayable as error:
        messages.info(request, str(error))
    except charging.PaymentRefused as refused:
        messages.error(request, f"The card was not charged. {refused} {_OTHER_WAYS}")
    except gateway.Failed:
        messages.warning(request, _UNKNOWN)
    else:
        messages.success(request, f"Invoice {paid.number} is paid.")
    return redirect("invoice", request.organization.public_id, found.public_id)


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


def _key(request: OrganizationRequest) -> UUID:
    """Return the key that was minted with the form; a new one for a request without."""
    try:
        return UUID(request.POST.get("key", ""))
    except ValueError:
        return uuid.uuid4()


def _invoice(request: OrganizationRequest, invoice: UUID) -> Invoice:
    rows = Invoice.objects.select_related("purchase__offer")
    return get_object_or_404(rows, public_id=invoice, organization=request.organization)


def _whole_number(text: str) -> int:
    """Return the number that a paging link carries; anything else begins at the start."""
    return int(text) if text.isdecimal() and len(text) < 19 else 0
