"""The staff desk's door: log in where everyone does, with a second factor."""

from collections.abc import Callable

from allauth.account.decorators import secure_admin_login
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode

from accounts import mfa


class StaffSite(admin.AdminSite):
    """The admin for staff whose session proved a second factor."""

    site_header = site_title = f"{settings.VENDOR_NAME} staff desk"
    index_title = "Staff desk"

    def has_permission(self, request: HttpRequest) -> bool:
        if not super().has_permission(request):
            return False
        if not settings.STAFF_MFA_REQUIRED:
            return True
        return mfa.is_proved(request) and mfa.is_enrolled(request.user)

    def login(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
        """Send the anonymous to the portal's own log-in, and staff without a second factor to get one."""
        if super().has_permission(request) and not self.has_permission(request):
            return self._ask_for_second_factor(request)
        log_in: Callable[..., HttpResponse] = secure_admin_login(super().login)
        return log_in(request, extra_context=extra_context)

    def _ask_for_second_factor(self, request: HttpRequest) -> HttpResponse:
        confirm_url = mfa.confirm_url(request.user)
        if confirm_url:
            desk = request.GET.get(REDIRECT_FIELD_NAME) or reverse("admin:index", current_app=self.name)
            return redirect(f"{confirm_url}?{urlencode({REDIRECT_FIELD_NAME: desk})}")
        messages.warning(request, "The staff desk opens only with a second factor. Set one up first.")
        return redirect("mfa_index")
