"""Where a person lands, and where a new customer begins."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from accounts import access, clock
from accounts.models import Organization
from accounts.organization_view import PersonRequest
from billing_portal.ledger.models import Grant
from billing_portal.portal import onboarding
from billing_portal.portal.forms import OrganizationForm


@require_GET
@login_required
def home(request: PersonRequest) -> HttpResponse:
    """Send a person to their organization; to the first by name of several; to make one if there is none."""
    organizations = access.organizations_of(request.user)
    if not organizations:
        return redirect("staff_find" if request.user.is_staff else "organization_new")
    return redirect("overview", organizations[0].public_id)


@require_http_methods(["GET", "POST"])
@login_required
def organization_new(request: PersonRequest) -> HttpResponse:
    """Ask for the organization's name, currency and time zone, and open it with its welcome credit."""
    form = OrganizationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        organization = onboarding.open_organization(user=request.user, now=clock.now(), **form.cleaned_data)
        messages.success(request, f"Welcome, {organization.name}. {_credit_text(organization)}")
        return redirect("overview", organization.public_id)
    credit = settings.WELCOME_CREDIT_MICROS
    return render(request, "portal/organization_new.html", {"form": form, "welcome_credit": credit})


def _credit_text(organization: Organization) -> str:
    """Say whether the organization starts with credit, and if not, why."""
    if Grant.objects.filter(organization=organization, kind=Grant.Kind.WELCOME).exists():
        return "Your free credit is ready to use."
    return "Free credit was given to your company before, so this organization starts without: save a card to begin."
