"""Calls, charges and prices on the staff desk."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts import clock
from billing_portal.support.desk.read_only import ReadOnlyAdmin, ReadOnlyInline, amount, shown
from usage import charges, ingestion, prices
from usage.models import Call, CallDetail, Charge, PriceBook, PriceRate, PriceVersion, UnratedCall


class CallDetailInline(ReadOnlyInline):
    model = CallDetail
    fields = ["from_number", "to_number", "metadata"]


@admin.register(Call)
class CallAdmin(ReadOnlyAdmin):
    """Found by the vendor's id, whole: the database has millions of them."""

    list_display = ["call_id", "organization", "started_at", "duration_ms", "status", "cost"]
    sortable_by = ()
    list_select_related = ["organization", "charge"]
    search_fields = ["call_id__exact"]
    search_help_text = "The vendor's call id, whole"
    readonly_fields = ["cost", "price_lines"]
    inlines = [CallDetailInline]

    @admin.display(description="Cost")
    def cost(self, call: Call) -> str:
        charge = getattr(call, "charge", None)
        return amount(charge.amount_micros, charge.currency) if charge else "unrated"

    @admin.display(description="Price by component")
    def price_lines(self, call: Call) -> str:
        charge = getattr(call, "charge", None)
        if charge is None:
            return "unrated"
        return "\n".join(f"{line.product}: {amount(line.micros, charge.currency)}" for line in charges.lines(charge))


@admin.register(Charge)
class ChargeAdmin(ReadOnlyAdmin):
    list_display = ["call", "organization", "sequence", "billed_month", shown("amount_micros"), "price_version"]
    sortable_by = ()
    list_select_related = ["call", "organization", "price_version__book"]
    search_fields = ["call__call_id__exact"]


@admin.register(UnratedCall)
class UnratedCallAdmin(ReadOnlyAdmin):
    """What no price covers yet: enter a price version with the missing product, then rate."""

    list_display = ["call", "organization", "missing", "noticed_at"]
    list_select_related = ["call", "organization"]
    search_fields = ["call__call_id__exact", "organization__name"]
    actions = ["rate_now"]

    @admin.action(description="Rate what has a price by now")
    def rate_now(self, request: HttpRequest, unrated: QuerySet[UnratedCall]) -> None:
        rated = ingestion.rate_unrated(now=clock.now(), limit=10_000)
        messages.success(request, f"{rated} calls were rated.")


class RateInline(admin.TabularInline):  # type: ignore[type-arg]
    model = PriceRate
    extra = 0
    fields = ["component", "product", "label", "unit", "rate_micros", "minimum_ms", "increment_ms"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_editable(obj) and super().has_change_permission(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_editable(obj) and super().has_add_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_editable(obj) and super().has_delete_permission(request, obj)


class PriceVersionForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        book, starts_at = self.cleaned_data.get("book"), self.cleaned_data.get("starts_at")
        if book and starts_at and starts_at <= clock.now() and book.versions.filter(is_used=True).exists():
            self.add_error("starts_at", "Calls were charged by this book: a new version starts in the future.")
        return cleaned


@admin.register(PriceVersion)
class PriceVersionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rates from an instant on; they can be edited until that instant."""

    form = PriceVersionForm
    list_display = ["__str__", "starts_at", "in_force_or_past", "note"]
    list_filter = ["book"]
    list_select_related = ["book"]
    search_fields = ["book__name", "book__reference", "note"]
    ordering = ["-pk"]
    readonly_fields = ["created_at"]
    inlines = [RateInline]

    def has_change_permission(self, request: HttpRequest, obj: PriceVersion | None = None) -> bool:
        return _is_editable(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: PriceVersion | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: PriceVersion, form: Any, change: bool) -> None:
        if not change:
            obj.created_at = clock.now()
        super().save_model(request, obj, form, change)

    @admin.display(boolean=True, description="In force")
    def in_force_or_past(self, version: PriceVersion) -> bool:
        return version.starts_at <= clock.now()


@admin.register(PriceBook)
class PriceBookAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "reference", "currency", "organization", "is_default"]
    list_select_related = ["organization"]
    autocomplete_fields = ["organization"]
    search_fields = ["name", "reference"]

    def get_readonly_fields(self, request: HttpRequest, obj: PriceBook | None = None) -> list[str]:
        """Whose a book is and in which currency is fixed when it is made."""
        return ["reference", "currency", "organization"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: PriceBook | None = None) -> bool:
        return False


def _is_editable(version: PriceVersion | None) -> bool:
    """Say whether a version may still be changed; one that is only being made may."""
    return version is None or version.pk is None or prices.editable(version, clock.now())
