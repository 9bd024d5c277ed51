"""The ledger's addresses under /api/v1/."""

from django.urls import path

from billing_portal.ledger.api import views

_ONE = "organizations/<str:organization>/reservations/<str:reference>"

urlpatterns = [
    path("organizations/<str:organization>/authorization", views.AuthorizationView.as_view(), name="api-authorization"),
    path("organizations/<str:organization>/reservations", views.ReservationsView.as_view(), name="api-reservations"),
    path(_ONE, views.ReservationView.as_view(), name="api-reservation"),
    path(f"{_ONE}/release", views.ReleaseView.as_view(), name="api-reservation-release"),
    path(f"{_ONE}/use", views.UseView.as_view(), name="api-reservation-use"),
]
