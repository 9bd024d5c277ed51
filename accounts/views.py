"""Pages about a person, beside allauth's."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from accounts.forms import ProfileForm


@login_required
@require_http_methods(["GET", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    """Show and take the person's name."""
    form = ProfileForm(request.POST or None, instance=request.user)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, "Your name is saved.")
        return redirect("account_profile")
    return render(request, "account/profile.html", {"form": form})


@require_safe
def terms_of_service(request: HttpRequest) -> HttpResponse:
    """Show the terms that sign-up asks to accept."""
    return render(request, "account/terms.html", {"terms_version": settings.TERMS_VERSION})
