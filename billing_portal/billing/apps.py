from importlib import import_module

from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing_portal.billing"
    label = "billing"

    def ready(self) -> None:
        """Connect the listeners once the models are there."""
        import_module("billing_portal.billing.listeners")
