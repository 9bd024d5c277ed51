"""Invoices, and the proof of each: every line beside the calls behind it."""

from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_GET

from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import reconciliation
from billing_portal.billing.models import Invoice
from usage import components, rollups
from usage.models import Component

_PAGE_SIZE = 50


@require_GET
@organization_view(Permission.VIEW_BILLING)
def invoices(request: OrganizationRequest) -> HttpResponse:
    """List the invoices, the newest first."""
    rows = Invoice.objects.filter(organization=request.organization).select_related("purchase")
    rows = rows.order_by("-drafted_at", "-id")
    return render(request, "portal/invoices.html", {"invoices": list(rows[:120])})


@require_GET
@organization_view(Permission.VIEW_BILLING)
def invoice(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Show one invoice with every line reconciled."""
    found = _invoice(request, invoice)
    context = {
        "invoice": found,
        "reconciliation": reconciliation.reconcile_invoice(found, deep=False),
        "late_micros": rollups.late_micros(request.organization.pk, found.month) if found.month else 0,
    }
    return render(request, "portal/invoice.html", context)


@require_GET
@organization_view(Permission.VIEW_BILLING)
def invoice_line(request: OrganizationRequest, invoice: UUID, component: str) -> HttpResponse:
    """Show the calls behind one usage line, in the order in which they were settled."""
    found = _invoice(request, invoice)
    if component not in Component.values:
        raise Http404("No such page.")
    after = _whole_number(request.GET.get("after", "0"))
    rows = []
    if found.month is not None:
        rows = list(
            components.charges_of(
                organization_id=request.organization.pk,
                month=found.month,
                component=Component(component),
                after=after,
                limit=_PAGE_SIZE + 1,
            )
        )
    checked = reconciliation.reconcile_invoice(found, deep=False)
    here = reverse("invoice_line", args=[request.organization.public_id, found.public_id, component])
    context = {
        "invoice": found,
        "component": Component(component),
        "line": next((each for each in checked.lines if each.kind == "usage" and each.component == component), None),
        "charges": rows[:_PAGE_SIZE],
        "first": here if after else "",
        "next": f"{here}?after={rows[_PAGE_SIZE - 1].sequence}" if len(rows) > _PAGE_SIZE else "",
    }
    template = "portal/invoice_line.html"
    return render(request, f"{template}#charges" if request.htmx else template, context)


def _invoice(request: OrganizationRequest, invoice: UUID) -> Invoice:
    rows = Invoice.objects.select_related("purchase")
    return get_object_or_404(rows, public_id=invoice, organization=request.organization)


def _whole_number(text: str) -> int:
    """Return the number that a paging link carries; anything else begins at the start."""
    return int(text) if text.isdecimal() and len(text) < 19 else 0
