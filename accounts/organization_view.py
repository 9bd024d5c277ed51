"""How a page of an organization begins: load it for the person, or refuse."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django_htmx.http import HttpResponseClientRefresh
from django_htmx.middleware import HtmxDetails

from accounts import access
from accounts.models import Membership, Organization, User

View = Callable[..., HttpResponseBase]


class PersonRequest(HttpRequest):
    """What a view of a person who is logged in gets; for annotations only."""

    user: User
    htmx: HtmxDetails


class OrganizationRequest(PersonRequest):
    """What a view under `organization_view` gets; for annotations only."""

    membership: Membership
    organization: Organization
    section: str  # set by a page that belongs elsewhere in the menu than its address says


def organization_view(permission: access.Permission) -> Callable[[View], View]:
    """Open the view to members whose role includes `permission`.

    The URL names the organization as `<uuid:organization>`. The view is called without it: it finds
    `request.organization` and `request.membership`. Anonymous people are sent to log in; a foreign and a
    missing organization are the same 404; a role that may not gets a page that says which roles may.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: Any, organization: UUID, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return _log_in(request)
            try:
                membership = access.authorize(request.user, organization, permission)
            except access.PermissionMissing as missing:
                return _forbidden(request, missing)
            request.membership = membership
            request.organization = membership.organization
            return view(request, *args, **kwargs)

        guarded.permission = permission  # type: ignore[attr-defined]
        return guarded

    return decorate


def _log_in(request: Any) -> HttpResponse:
    # A fragment must not be replaced by the log-in page: let the whole page load again, and be redirected.
    if getattr(request, "htmx", False):
        return HttpResponseClientRefresh()
    return redirect_to_login(request.get_full_path())


def _forbidden(request: HttpRequest, missing: access.PermissionMissing) -> HttpResponse:
    context = {
        "organization": missing.membership.organization,
        "role": missing.membership.get_role_display(),
        "permission": missing.permission,
        "roles_that_may": access.roles_that_may(missing.permission),
    }
    return render(request, "403.html", context, status=403)
