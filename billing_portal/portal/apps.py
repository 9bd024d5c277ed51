from importlib import import_module

from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "billing_portal.portal"
    label = "portal"

    def ready(self) -> None:
        """Make our Celery application the current one, so that web processes and commands queue to our broker."""
        import_module("billing_portal.celery")
