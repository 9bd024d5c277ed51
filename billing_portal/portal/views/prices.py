"""What calls cost: the prices in force, those to come, and what they mean on the last month."""

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts import clock
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.portal import price_news


@require_GET
@organization_view(Permission.VIEW_USAGE)
def prices(request: OrganizationRequest) -> HttpResponse:
    """Show what each product costs, and prices to come beside that."""
    context = {"standing": price_news.of(request.organization, now=clock.now())}
    return render(request, "portal/prices.html", context)
