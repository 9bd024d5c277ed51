"""Addresses about people, beside allauth's."""

from django.urls import path

from accounts import views

urlpatterns = [
    path("profile/", views.profile, name="account_profile"),
    path("terms/", views.terms_of_service, name="terms_of_service"),
]
