from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing_portal.billing"
    label = "billing"
