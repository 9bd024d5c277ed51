"""The rules by which conversations are charged: in force, to come, and what they mean on the last month."""

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts import clock
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.portal import rule_news


@require_GET
@organization_view(Permission.VIEW_USAGE)
def outcome_rules(request: OrganizationRequest) -> HttpResponse:
    """Show the rules in words, and rules to come beside them."""
    context = {"standing": rule_news.of(request.organization, now=clock.now())}
    return render(request, "portal/outcome_rules.html", context)
