"""Every address of the portal, by package."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("accounts/", include("allauth.urls")),
    path("accounts/", include("accounts.urls")),
    path("api/v1/", include("usage.api_urls")),
    path("api/v1/", include("billing_portal.billing.api_urls")),
    path("api/v1/", include("billing_portal.ledger.api_urls")),
    path("stripe/", include("billing_portal.billing.urls")),
    path("staff/", include("billing_portal.support.urls")),
    path("staff/", admin.site.urls),
    path("", include("billing_portal.portal.urls")),
]

handler404 = "accounts.problems.not_found"
handler500 = "accounts.problems.server_error"
