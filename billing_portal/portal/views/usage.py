"""Usage: the days and components of a range, and what they break down into."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from accounts import clock
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.portal import date_ranges, seal, usage_figures, usage_tabs
from usage import periods


@require_GET
@organization_view(Permission.VIEW_USAGE)
def usage(request: OrganizationRequest) -> HttpResponse:
    """Show a range's figures."""
    organization, now = request.organization, clock.now()
    today = periods.day_of(now, organization.zone)
    days = date_ranges.of(request.GET, today)
    here, list_url = (reverse(name, args=[organization.public_id]) for name in ("usage", "calls"))
    figures = usage_figures.of(organization, starts_on=days.starts_on, ends_on=days.ends_on)
    context: dict[str, Any] = {
        "days": days,
        "tabs": usage_tabs.of(organization, days, current="usage"),
        "chart": figures.chart,
        "shares": figures.shares,
        "total": figures.total,
        "average_micros": figures.total.micros // figures.total.calls if figures.total.calls else 0,
        "products": [
            {**product, "url": f"{list_url}?{urlencode({**days.parameters, 'product': product['name']})}"}
            for product in figures.products
        ],
        "calls_url": f"{list_url}?{urlencode(days.parameters)}",
        "seal": seal.of(organization, now=now),
        "ranges": date_ranges.options(days, today, lambda named: f"{here}?{urlencode(named)}"),
    }
    return render(request, "portal/usage.html", context)
