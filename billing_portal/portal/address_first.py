"""An address before the first charge: whoever is about to buy or to save a card is asked for it on the way."""

from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from accounts.organization_view import OrganizationRequest
from billing_portal.billing.tax import details


def ask(request: OrganizationRequest, *, back: str = "") -> HttpResponse | None:
    """Return the way to the short form where the address is still missing, from which one comes back; else None.

    `back` is where to go on; without it the page that is asked for, which must be one to be read.
    """
    if not details.are_missing(request.organization):
        return None
    asked = reverse("billing_details_first", args=[request.organization.public_id])
    return redirect(f"{asked}?{urlencode({'next': back or request.get_full_path()})}")


def going_on(request: OrganizationRequest, given: str) -> str:
    """Return where somebody wanted to go, if that is a page of the organization; else the page of the details."""
    home = reverse("overview", args=[request.organization.public_id])
    is_ours = url_has_allowed_host_and_scheme(given, allowed_hosts=None) and given.startswith(home)
    return given if is_ours else reverse("billing_details", args=[request.organization.public_id])
