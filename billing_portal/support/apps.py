from django.apps import AppConfig


class SupportConfig(AppConfig):
    name = "billing_portal.support"
    label = "support"
