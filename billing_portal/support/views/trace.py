"""Trace an id for support: what became of a call, whichever organization it is of."""

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.organization_view import PersonRequest
from billing_portal.billing import call_traces


@require_GET
def trace(request: PersonRequest) -> HttpResponse:
    """Show what became of the id in every organization that knows it."""
    if not request.user.has_perm("usage.view_call"):
        raise PermissionDenied
    call_id = request.GET.get("id", "").strip()
    knowing = call_traces.organizations_knowing(call_id) if call_id else []
    context = {
        **admin.site.each_context(request),
        "title": "Trace a call",
        "call_id": call_id,
        "may_ask": request.user.has_perm("support.add_staffaction"),
        "traces": [(organization, call_traces.trace(organization.pk, call_id)) for organization in knowing],
    }
    return render(request, "staff/trace.html", context)
