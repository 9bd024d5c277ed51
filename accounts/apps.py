from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"


class StaffAdminConfig(AdminConfig):
    """Django's admin behind a second factor; stands in INSTALLED_APPS in place of `django.contrib.admin`."""

    default_site = "accounts.admin_site.StaffSite"
