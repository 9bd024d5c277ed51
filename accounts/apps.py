from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps

from accounts import instant_loader


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        instant_loader.register()


class StaffAdminConfig(admin_apps.AdminConfig):
    """Django's admin behind a second factor; stands in INSTALLED_APPS in place of `django.contrib.admin`."""

    default = False
    default_site = "accounts.admin_site.StaffSite"
