from django.apps import AppConfig


class LocalConfig(AppConfig):
    """The demo's seed and story, as commands; the embedded servers beside them need no Django."""

    name = "billing_portal.local"
    label = "local"
