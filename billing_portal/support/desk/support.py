"""The desk's own rows: what staff did."""

from django.contrib import admin

from billing_portal.support.desk.read_only import ReadOnlyAdmin, shown
from billing_portal.support.models import StaffAction


@admin.register(StaffAction)
class StaffActionAdmin(ReadOnlyAdmin):
    """Who did what to whom, why, and who approved it."""

    list_display = [
        "kind",
        "organization",
        shown("amount_micros"),
        "reason",
        "state",
        "asked_by",
        "asked_at",
        "decided_by",
        "decided_at",
    ]
    list_filter = ["state", "kind"]
    list_select_related = ["organization", "asked_by", "decided_by"]
    search_fields = ["organization__name", "organization__reference", "asked_by__email", "decided_by__email", "reason"]
