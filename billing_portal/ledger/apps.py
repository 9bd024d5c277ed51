from importlib import import_module

from django.apps import AppConfig


class LedgerConfig(AppConfig):
    name = "billing_portal.ledger"
    label = "ledger"

    def ready(self) -> None:
        """Connect the receivers once the models are there."""
        import_module("billing_portal.ledger.receivers")
