"""The ledger on the staff desk: to look at, never to touch."""

from django.contrib import admin

from billing_portal.ledger.models import Account, Burn, Entry, Grant, Period, Settlement, SettlementLine, Transaction
from billing_portal.support.desk.read_only import ReadOnlyAdmin, ReadOnlyInline, amount, micros_column


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    list_display = ["organization", "currency", "last_sequence", "limit", "opened_at"]
    list_select_related = ["organization"]
    search_fields = ["organization__name", "organization__reference"]
    limit = micros_column("arrears_limit_micros", "Arrears limit")


@admin.register(Grant)
class GrantAdmin(ReadOnlyAdmin):
    list_display = ["organization", "kind", "given", "left", "expires_at", "reference", "created_at"]
    list_filter = ["kind"]
    list_select_related = ["organization"]
    search_fields = ["organization__name", "organization__reference", "reference__exact"]
    given = micros_column("amount_micros", "Given")
    left = micros_column("remaining_micros", "Left")


class EntryInline(ReadOnlyInline):
    model = Entry
    fields = ["book", "grant", "shown"]
    readonly_fields = ["shown"]
    shown = micros_column("micros", "Amount")


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
    list_display = ["organization", "month", "first_sequence", "last_sequence", "gross", "accrued", "settled_at"]
    list_select_related = ["organization__account"]
    search_fields = ["organization__name", "organization__reference"]
    inlines = [SettlementLineInline, BurnInline]

    @admin.display(description="Gross")
    def gross(self, settlement: Settlement) -> str:
        return amount(settlement.gross_micros, settlement.organization.account.currency)

    @admin.display(description="Accrued")
    def accrued(self, settlement: Settlement) -> str:
        return amount(settlement.accrued_micros, settlement.organization.account.currency)


@admin.register(Period)
class PeriodAdmin(ReadOnlyAdmin):
    list_display = ["organization", "month", "time_zone", "starts_at", "ends_at", "closed_at"]
    list_select_related = ["organization"]
    search_fields = ["organization__name", "organization__reference"]
