from importlib import import_module
from importlib.util import find_spec

from django.apps import AppConfig


class LedgerConfig(AppConfig):
    name = "billing_portal.ledger"
    label = "ledger"

    def ready(self) -> None:
        """Connect the receivers once the models are there."""
        if find_spec("usage.charges") and find_spec("usage.signals"):
            import_module("billing_portal.ledger.receivers")
