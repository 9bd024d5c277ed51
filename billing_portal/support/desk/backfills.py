"""Backfills as rows: who asked for what, who let it go ahead, and what it did to whom."""

from django.contrib import admin

from billing_portal.support.desk.read_only import ReadOnlyAdmin, shown
from usage.models import Backfill, BackfillPart


@admin.register(Backfill)
class BackfillAdmin(ReadOnlyAdmin):
    """Asked for and started on pages of their own."""

    list_display = ["__str__", "reason", "state", "asked_by", "asked_at", "started_by", "started_at", "finished_at"]
    list_filter = ["state"]
    list_select_related = ["price_version__book", "asked_by", "started_by"]
    search_fields = ["reason", "asked_by__email", "started_by__email", "price_version__book__reference"]


@admin.register(BackfillPart)
class BackfillPartAdmin(ReadOnlyAdmin):
    """One organization's part: counted, and done."""

    list_display = [
        "backfill",
        "organization",
        "calls",
        shown("more_micros"),
        shown("less_micros"),
        "revised",
        shown("charged_micros"),
        shown("given_back_micros"),
        "done_at",
    ]
    list_select_related = ["backfill__price_version__book", "organization"]
    search_fields = ["organization__name", "organization__reference", "backfill__reason"]
