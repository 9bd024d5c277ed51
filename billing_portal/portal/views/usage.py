"""Usage: the days and components of a range, and every call in it, down to its price."""

from datetime import date, timedelta
from typing import Any

from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from accounts import clock
from accounts.access import Permission
from accounts.models import Organization
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing.models import Invoice
from billing_portal.ledger import settlement
from billing_portal.portal import call_list, call_page, seal, usage_figures
from usage import calls, charges, periods
from usage.charges import Charge


@require_GET
@organization_view(Permission.VIEW_USAGE)
def usage(request: OrganizationRequest) -> HttpResponse:
    """Show a range's figures and its calls, newest first; htmx asks for the calls alone."""
    organization = request.organization
    today = periods.day_of(clock.now(), organization.zone)
    starts_on, ends_on = call_list.range_of(request.GET, today)
    here = reverse("usage", args=[organization.public_id])
    filters = call_list.Filters.of(request.GET, starts_on=starts_on, ends_on=ends_on, zone=organization.zone)
    page = call_list.page(organization, filters, cursor=request.GET.get("cursor", ""))
    context: dict[str, Any] = {
        "starts_on": starts_on,
        "ends_on": ends_on,
        "filters": filters,
        "calls": page.calls,
        "export_url": _with(request.GET, reverse("exports", args=[organization.public_id])),
        "reset_url": f"{here}?from={starts_on}&to={ends_on}",
        "first_url": _with(request.GET, here) if page.is_later else "",
        "next_url": _with(request.GET, here, cursor=page.next_cursor) if page.next_cursor else "",
        "searched": "Searched in part: go on for more" if page.is_partial else "Newest first",
        "status_choices": call_list.STATUSES,
        "product_choices": usage_figures.products_of(organization, starts_on=starts_on, ends_on=ends_on),
    }
    if request.htmx:
        return render(request, "portal/usage.html#calls", context)
    figures = usage_figures.of(organization, starts_on=starts_on, ends_on=ends_on)
    context |= {
        "chart": figures.chart,
        "shares": figures.shares,
        "total": figures.total,
        "average_micros": figures.total.micros // figures.total.calls if figures.total.calls else 0,
        "products": [
            {**product, "url": _with(request.GET, here, product=product["name"]) + "#calls"}
            for product in figures.products
        ],
        "seal": seal.of(organization, now=clock.now()),
        "ranges": _ranges(here, today, starts_on, ends_on),
    }
    return render(request, "portal/usage.html", context)


@require_GET
@organization_view(Permission.VIEW_USAGE)
def call(request: OrganizationRequest, call_id: str) -> HttpResponse:
    """Show one call: its price line by line, who paid for it, and its facts."""
    found = calls.find(request.organization.pk, call_id)
    if found is None:
        raise Http404("No such call.")
    charge = charges.of(found)
    detail = calls.detail(found)
    context: dict[str, Any] = {
        "call": found,
        "status_label": call_list.label(found.kind.status),
        "disconnection_label": call_list.label(found.kind.disconnection_reason),
        "detail": detail,
        "metadata": call_page.printable(detail.metadata) if detail else [],
        "charge": charge,
        "unrated": calls.unrated(found) if charge is None else None,
    }
    if charge is not None:
        context["lines"] = [call_page.line(each, charge.currency) for each in charge.lines]
        context["funding"] = call_page.parts(settlement.funding(charge))
        context["invoice"] = _invoice(request.organization, charge)
    return render(request, "portal/call.html", context)


def _invoice(organization: Organization, charge: Charge) -> Invoice | None:
    if charge.billed_month is None:
        return None
    invoices = Invoice.objects.filter(organization=organization, month=charge.billed_month)
    return invoices.exclude(state=Invoice.State.VOID).first()


def _ranges(here: str, today: date, starts_on: date, ends_on: date) -> list[dict[str, Any]]:
    last_month = periods.previous_month(today)
    choices = [
        ("7 days", today - timedelta(days=6), today),
        ("30 days", today - timedelta(days=29), today),
        ("This month", today.replace(day=1), today),
        ("Last month", last_month, today.replace(day=1) - timedelta(days=1)),
    ]
    return [
        {"label": label, "url": f"{here}?from={start}&to={end}", "current": (start, end) == (starts_on, ends_on)}
        for label, start, end in choices
    ]


def _with(query: QueryDict, here: str, **changes: str) -> str:
    """Return this page's address with its filters and `changes`; paging always begins anew unless it is changed."""
    changed = query.copy()
    changed.pop("cursor", None)
    for name, value in changes.items():
        changed[name] = value
    return f"{here}?{changed.urlencode()}" if changed else here
