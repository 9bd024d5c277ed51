"""What an organization may change about itself."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts import access, organizations
from accounts.access import Permission
from accounts.models import Membership, TermsAcceptance
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.portal.forms import SettingsForm


@require_http_methods(["GET", "POST"])
@organization_view(Permission.VIEW_USAGE)
def settings_page(request: OrganizationRequest) -> HttpResponse:
    """Show the settings; those who may, change them."""
    form = SettingsForm(request.POST or None, organization=request.organization)
    may_change = access.may(request.membership, Permission.MANAGE_SETTINGS)
    if request.method == "POST" and may_change and form.is_valid():
        organizations.change_details(request.organization, **form.cleaned_data)
        messages.success(request, "Saved.")
        return redirect("settings", request.organization.public_id)
    members = Membership.objects.filter(organization=request.organization).select_related("user")
    accepted = TermsAcceptance.objects.filter(organization=request.organization).select_related("user").last()
    context = {"form": form, "may_change": may_change, "members": members.order_by("id"), "terms_acceptance": accepted}
    return render(
        request, "portal/settings.html", context, status=200 if request.method == "GET" or may_change else 403
    )
