"""Trace my ID: what became of a call, by the vendor's id alone; and whether every call has arrived."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts import clock, replica
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import call_traces
from billing_portal.portal import call_page, seal


@require_GET
@organization_view(Permission.VIEW_USAGE)
@replica.reads
def trace(request: OrganizationRequest) -> HttpResponse:
    """Show what became of the id asked for; without one, what is missing and what was rejected."""
    organization, now = request.organization, clock.now()
    call_id = request.GET.get("id", "").strip()
    context: dict[str, Any] = {"call_id": call_id}
    if call_id:
        found = call_traces.trace(organization.pk, call_id)
        context |= {"trace": found, "funding": call_page.parts(found.funding)}
    else:
        context |= {"seal": seal.of(organization, now=now), "rejections": seal.rejections(organization, now=now)}
    return render(request, "portal/trace.html", context)
