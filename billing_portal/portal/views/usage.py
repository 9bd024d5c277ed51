"""Usage: what a range of days came to, broken down, beside the days it is compared with."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from accounts import clock, replica
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.portal import date_ranges, seal, usage_breakdown, usage_tabs
from billing_portal.portal.date_ranges import Days
from usage import periods
from usage.breakdowns import Dimension


@require_GET
@organization_view(Permission.VIEW_USAGE)
@replica.reads
def usage(request: OrganizationRequest) -> HttpResponse:
    """Show a range's figures by one dimension; htmx gets the figures alone, with their address."""
    organization, now = request.organization, clock.now()
    today = periods.day_of(now, organization.zone)
    days = date_ranges.of(request.GET, today)
    how, before = date_ranges.compared(request.GET, days)
    dimension = _dimension(request.GET)
    here, list_url = (reverse(name, args=[organization.public_id]) for name in ("usage", "calls"))
    filtered = "agent" if dimension is Dimension.AGENT else "product"
    figures = usage_breakdown.of(
        organization,
        dimension,
        days=days,
        before=before,
        address=lambda value: f"{list_url}?{urlencode(days.parameters | {filtered: value})}",
    )
    chosen = _chosen(dimension, how, before)
    context: dict[str, Any] = {
        "days": days,
        "before": before,
        "how": how,
        "dimension": dimension,
        "figures": figures,
        "dimensions": [(each.value, label) for each, label, _ in usage_breakdown.DIMENSIONS],
        "comparisons": date_ranges.COMPARISONS,
        "average_micros": figures.sums.micros // figures.sums.calls if figures.sums.calls else 0,
        "calls_url": f"{list_url}?{urlencode(days.parameters)}",
    }
    if request.htmx:
        response = render(request, "portal/usage.html#figures", context)
        response["HX-Push-Url"] = f"{here}?{urlencode(days.parameters | chosen)}"
        return response
    context |= {
        "tabs": usage_tabs.of(organization, days, current="usage"),
        "seal": seal.of(organization, now=now),
        "ranges": date_ranges.options(days, today, lambda named: f"{here}?{urlencode(named | chosen)}"),
    }
    return render(request, "portal/usage.html", context)


def _dimension(query: QueryDict) -> Dimension:
    name = query.get("by", "")
    return Dimension(name) if name in set(Dimension) else Dimension.COMPONENT


def _chosen(dimension: Dimension, how: str, before: Days | None) -> dict[str, str]:
    """Return what an address says besides the days; nothing for what goes without saying."""
    chosen = {} if dimension is Dimension.COMPONENT else {"by": dimension.value}
    if how == "days" and before:
        return chosen | {"compare": how, "with": str(before.starts_on)}
    return chosen if how == "before" else chosen | {"compare": how}
