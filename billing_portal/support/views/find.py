"""Find anything by what support is told on the phone."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from billing_portal.support import finding


def find(request: HttpRequest) -> HttpResponse:
    """Show everything that matches the text; with one match, the page is still a list, so that nothing is hidden."""
    text = request.GET.get("q", "")
    context = {
        **admin.site.each_context(request),
        "title": "Find",
        "text": text,
        "found": list(finding.find(text)),
    }
    return render(request, "staff/find.html", context)
