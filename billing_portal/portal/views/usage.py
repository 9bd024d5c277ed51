"""Usage: what a range of days came to, broken down, beside the days it is compared with."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from accounts import clock, replica
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.portal import date_ranges, seal, usage_breakdown, usage_subjects, usage_tabs
from billing_portal.portal.date_ranges import Days
from billing_portal.portal.usage_subjects import Subject
from usage import metadata_usage, periods
from usage.backfills import plans


@require_GET
@organization_view(Permission.VIEW_USAGE)
@replica.reads
def usage(request: OrganizationRequest) -> HttpResponse:
    """Show a range's figures by one dimension; htmx gets the figures alone, with their address."""
    organization, now = request.organization, clock.now()
    today = periods.day_of(now, organization.zone)
    days = date_ranges.of(request.GET, today)
    how, before = date_ranges.compared(request.GET, days)
    keys = metadata_usage.keys_of(organization.pk)
    subject = usage_subjects.of(organization, request.GET.get("by", ""), keys)
    here, list_url = (reverse(name, args=[organization.public_id]) for name in ("usage", "calls"))
    figures = usage_breakdown.of(
        organization,
        subject,
        days=days,
        before=before,
        address=lambda filters: f"{list_url}?{urlencode(days.parameters | filters)}",
    )
    chosen = _chosen(subject, how, before)
    context: dict[str, Any] = {
        "days": days,
        "before": before,
        "how": how,
        "subject": subject,
        "figures": figures,
        "subjects": usage_subjects.choices(keys),
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
        "priced_anew": plans.notices(organization, now=now),
        "ranges": date_ranges.options(days, today, lambda named: f"{here}?{urlencode(named | chosen)}"),
    }
    return render(request, "portal/usage.html", context)


def _chosen(subject: Subject, how: str, before: Days | None) -> dict[str, str]:
    """Return what an address says besides the days; nothing for what goes without saying."""
    chosen = {} if subject.is_component else {"by": subject.name}
    if how == "days" and before:
        return chosen | {"compare": how, "with": str(before.starts_on)}
    return chosen if how == "before" else chosen | {"compare": how}
