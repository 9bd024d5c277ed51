"""Saved views: name the list one looks at, rename it, share it, delete it, take it back."""

from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import clock
from accounts.access import Permission
from accounts.models import Organization
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.portal import date_ranges, saved_views
from billing_portal.portal.call_list import Filters
from usage import periods


class ViewForm(forms.Form):
    """What a view is called, and who sees it."""

    name = forms.CharField(max_length=60)
    is_shared = forms.BooleanField(required=False)


@never_cache
@require_GET
@organization_view(Permission.VIEW_USAGE)
def view_list(request: OrganizationRequest) -> HttpResponse:
    """Show all views, and what one may do with them."""
    here = reverse("calls", args=[request.organization.public_id])
    shown = [
        {
            "view": view,
            "url": f"{here}?{view.query}",
            "is_mine": view.owner_id == request.user.pk,
            "may_change": saved_views.may_change(request.membership, view),
        }
        for view in saved_views.seen_by(request.membership)
    ]
    return render(
        request, "portal/saved_views.html", {"shown": shown, "deleted": _uuid(request.GET.get("deleted", ""))}
    )


@require_POST
@organization_view(Permission.VIEW_USAGE)
def view_new(request: OrganizationRequest) -> HttpResponse:
    """Save the list that the form comes from."""
    query = _canonical(request.organization, QueryDict(request.POST.get("query", "")))
    back = f"{reverse('calls', args=[request.organization.public_id])}?{query}"
    form = _form(request)
    if form is None:
        return redirect(back)
    try:
        saved_views.save(membership=request.membership, query=query, now=clock.now(), **form.cleaned_data)
    except (saved_views.NameTaken, saved_views.TooManyViews) as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, f"Saved as {form.cleaned_data['name']}.")
    return redirect(back)


@require_POST
@organization_view(Permission.VIEW_USAGE)
def view_change(request: OrganizationRequest, view: UUID) -> HttpResponse:
    """Rename a view, and share it or not."""
    found = saved_views.changeable(request.membership, view)
    form = _form(request)
    if form is not None:
        try:
            saved_views.change(found, **form.cleaned_data)
        except saved_views.NameTaken as taken:
            messages.error(request, str(taken))
        else:
            messages.success(request, "Saved.")
    return redirect("saved_views", request.organization.public_id)


@require_POST
@organization_view(Permission.VIEW_USAGE)
def view_delete(request: OrganizationRequest, view: UUID) -> HttpResponse:
    """Delete a view; the page that follows takes it back on a press."""
    found = saved_views.changeable(request.membership, view)
    saved_views.delete(found, now=clock.now())
    url = reverse("saved_views", args=[request.organization.public_id])
    return redirect(f"{url}?{urlencode({'deleted': str(found.public_id)})}")


@require_POST
@organization_view(Permission.VIEW_USAGE)
def view_restore(request: OrganizationRequest, view: UUID) -> HttpResponse:
    """Take a deleted view back."""
    found = saved_views.changeable(request.membership, view, is_deleted=True)
    try:
        saved_views.restore(found)
    except saved_views.NameTaken as taken:
        messages.error(request, str(taken))
    else:
        messages.success(request, f"{found.name} is back.")
    return redirect("saved_views", request.organization.public_id)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _form(request: HttpRequest) -> ViewForm | None:
    """Return the form if it is sound; otherwise say what is wrong with it."""
    form = ViewForm(request.POST)
    if form.is_valid():
        return form
    messages.error(request, "Give the view a name of at most 60 letters.")
    return None


def _canonical(organization: Organization, query: QueryDict) -> str:
    """Return an address's parameters as the list understands them: nothing else is kept."""
    days = date_ranges.of(query, periods.day_of(clock.now(), organization.zone))
    return urlencode(Filters.of(query, days=days, zone=organization.zone).parameters)
