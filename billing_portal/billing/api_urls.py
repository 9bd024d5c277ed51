"""The API's addresses whose answers reach from calls to payments."""

from django.urls import path

from billing_portal.billing import trace_api

urlpatterns = [
    path("calls/<str:call_id>/trace", trace_api.CallTraceView.as_view(), name="api-call-trace"),
]
