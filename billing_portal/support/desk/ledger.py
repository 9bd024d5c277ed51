"""The ledger on the staff desk: to look at, never to touch."""

from django.contrib import admin

from billing_portal.ledger.models import (
    Account,
    Burn,
    Check,
    DiscountLine,
    DiscountPosting,
    Entry,
    Finding,
    Grant,
    Period,
    Settlement,
    SettlementLine,
    Transaction,
    WriteOff,
    WriteOffLine,
)
from billing_portal.support.desk.read_only import ReadOnlyAdmin, ReadOnlyInline, shown


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    list_display = [
        "organization",
        "currency",
        "last_sequence",
        shown("arrears_limit_micros"),
        "opened_at",
        "frozen_at",
    ]
    list_filter = [("frozen_at", admin.EmptyFieldListFilter)]
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
    list_display = ["reference", "organization", "kind", "reason", "occurred_at"]
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


class WriteOffLineInline(ReadOnlyInline):
    model = WriteOffLine
    fields = ["component", "micros"]


@admin.register(WriteOff)
class WriteOffAdmin(ReadOnlyAdmin):
    list_display = ["organization", "month", shown("micros"), "transaction"]
    list_select_related = ["organization", "transaction"]
    search_fields = ["organization__name", "organization__reference", "transaction__reference__exact"]
    inlines = [WriteOffLineInline]


class DiscountLineInline(ReadOnlyInline):
    model = DiscountLine
    fields = ["discount", "component", "micros"]


@admin.register(DiscountPosting)
class DiscountPostingAdmin(ReadOnlyAdmin):
    """What discounts took off a month whenever an invoice was cut."""

    list_display = ["organization", "month", "transaction"]
    list_select_related = ["organization", "transaction"]
    search_fields = ["organization__name", "organization__reference", "transaction__reference__exact"]
    inlines = [DiscountLineInline]


@admin.register(Check)
class CheckAdmin(ReadOnlyAdmin):
    """When each organization's books were last proved."""

    list_display = ["organization", "checked_at", "differences"]
    list_select_related = ["organization"]
    search_fields = ["organization__name", "organization__reference"]


@admin.register(Finding)
class FindingAdmin(ReadOnlyAdmin):
    """What the proofs of the books found; lift a freeze on the organization's desk page."""

    list_display = ["law", "organization", "subject", "expected", "found", "noticed_at", "accepted_at", "resolved_at"]
    list_filter = [("resolved_at", admin.EmptyFieldListFilter)]
    list_select_related = ["organization"]
    search_fields = ["organization__name", "organization__reference", "law"]
