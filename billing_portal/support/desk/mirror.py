"""Stripe's objects as dj-stripe mirrors them: to look at, with amounts in the right unit.

dj-stripe's own pages are taken down: two of them fail, and their amounts are a hundred times too high.
"""

import json
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.exceptions import NotRegistered
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing_portal.billing import minor_units
from billing_portal.support.amounts import amount
from billing_portal.support.desk.read_only import ReadOnlyAdmin

# Mirrored type, and where its JSON holds the amount worth a column.
_SHOWN = {
    "Customer": None,
    "PaymentMethod": None,
    "SetupIntent": None,
    "PaymentIntent": "amount",
    "Charge": "amount",
    "Refund": "amount",
    "Dispute": "amount",
    "Invoice": "total",
    "Subscription": None,
    "Product": None,
    "Price": None,
}


class MirrorAdmin(ReadOnlyAdmin):
    """One mirrored type; the page shows Stripe's JSON as it came."""

    amount_key: str | None = None
    list_display = ["id", "state", "value", "whose", "created"]
    search_fields = ["id__exact"]
    search_help_text = "A Stripe id"
    fields = ["id", "state", "value", "whose", "created", "stripe_object"]
    readonly_fields = ["id", "state", "value", "whose", "created", "stripe_object"]

    # None of these has the name of a column of the model: Django would show that instead.
    @admin.display(description="Status")
    def state(self, row: Any) -> str:
        return row.stripe_data.get("status") or "–"

    @admin.display(description="Amount")
    def value(self, row: Any) -> str:
        if self.amount_key is None or row.stripe_data.get(self.amount_key) is None:
            return "–"
        currency = row.stripe_data["currency"].upper()
        return amount(minor_units.to_micros(row.stripe_data[self.amount_key], currency), currency)

    @admin.display(description="Customer")
    def whose(self, row: Any) -> str:
        return row.stripe_data.get("customer") or "–"

    @admin.display(description="As Stripe sent it")
    def stripe_object(self, row: Any) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(row.stripe_data, indent=2, sort_keys=True))


def _take_over() -> None:
    """Take dj-stripe's pages down and put ours up. Django discovers this package after dj-stripe's."""
    mirror = apps.get_app_config("djstripe")
    mirror.verbose_name = "Stripe, mirrored"
    for model in mirror.get_models():
        try:
            admin.site.unregister(model)
        except NotRegistered:
            continue
    for name, key in _SHOWN.items():
        model = apps.get_model("djstripe", name)
        admin.site.register(model, type(f"{name}MirrorAdmin", (MirrorAdmin,), {"amount_key": key}))


_take_over()
