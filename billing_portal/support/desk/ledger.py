"""The ledger on the staff desk: to look at, never to touch."""

from django.contrib import admin

from billing_portal.ledger.models import Account, Burn, Entry, Grant, Period, Settlement, SettlementLine, Transaction
from billing_portal.support.desk.read_only import ReadOnlyAdmin, ReadOnlyInline, shown


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    list_display = ["organization", "currency", "last_sequence", shown("arrears_limit_micros"), "opened_at"]
    list_select_related = ["organization"]
    search_fields = ["organization__name", "organization__reference"]


@admin.register(Grant)
class GrantAdmin(ReadOnlyAdmin):
    list_display = [
        "organization",
        "kind",
        shown("amount_micros"),
        shown("remaining_micros"),
        "expires_at",
        "reference",
        "created_at",
    ]
    list_filter = ["kind"]
    list_select_related = ["organization"]
    search_fields = ["organization__name", "organization__reference", "reference__exact"]


class EntryInline(ReadOnlyInline):
    model = Entry
    fields = ["book", "grant", "micros"]


@admin.register(Transaction)
class TransactionAdmin(ReadOnlyAdmin):
    list_display = ["reference", "organization", "kind", "occurred_at"]
    list_filter = ["kind"]
    list_select_related = ["organization"]
    search_fields = ["reference__exact", "organization__name", "organization__reference"]
    inlines = [EntryInline]


class SettlementLineInline(ReadOnlyInline):
    model = SettlementLine
    fields = ["component", "gross_micros", "accrued_micros"]


class BurnInline(ReadOnlyInline):
    model = Burn
    fields = ["grant", "component", "micros"]


@admin.register(Settlement)
class SettlementAdmin(ReadOnlyAdmin):
    list_display = [
        "organization",
        "month",
        "first_sequence",
        "last_sequence",
        shown("gross_micros"),
        shown("accrued_micros"),
        "settled_at",
    ]
    list_select_related = ["organization"]
    search_fields = ["organization__name", "organization__reference"]
    inlines = [SettlementLineInline, BurnInline]


@admin.register(Period)
class PeriodAdmin(ReadOnlyAdmin):
    list_display = ["organization", "month", "time_zone", "starts_at", "ends_at", "closed_at"]
    list_select_related = ["organization"]
    search_fields = ["organization__name", "organization__reference"]
