"""The addresses that Stripe calls."""

from django.urls import path

from billing_portal.billing import webhooks

urlpatterns = [
    path("webhooks/", webhooks.receive, name="stripe_webhook"),
]
