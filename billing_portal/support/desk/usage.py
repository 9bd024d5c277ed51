"""Calls, charges and prices on the staff desk."""

import json
from functools import reduce
from operator import or_
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from accounts import clock
from billing_portal.support.amounts import amount
from billing_portal.support.desk.read_only import ReadOnlyAdmin
from usage import calls, charges, ingestion, prices, revisions, storage
from usage.models import Call, CallKey, CallRevision, PriceBook, PriceRate, PriceVersion, UnratedCall


@admin.register(Call)
class CallAdmin(ReadOnlyAdmin):
    """Found by the vendor's id, whole: the database has millions of them, in a table a month."""

    list_display = ["call_id", "revision", "organization", "started_at", "duration_ms", "status", "cost"]
    sortable_by = ()
    ordering = ["-started_at", "-id"]
    list_select_related = ["organization", "kind", "agent", "mix"]
    search_help_text = "The vendor's call id, whole"
    search_fields = ["call_id__exact"]
    readonly_fields = ["cost", "correction", "price_lines", "settled", "detail"]
    show_full_result_count = False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Call], search_term: str
    ) -> tuple[QuerySet[Call], bool]:
        """Find by the key, which says when the call was. Nothing else finds quickly in all months, so list nothing."""
        if not search_term:
            return queryset.none(), False
        key = storage.key_of(search_term.strip())
        firsts = CallKey.objects.filter(key=key).values_list("organization_id", "started_at")
        later = CallRevision.objects.filter(key=key).values_list("organization_id", "started_at")
        places = sorted({*firsts, *later})
        if not places:
            return queryset.none(), False
        found = [Q(organization_id=organization, started_at=started_at) for organization, started_at in places]
        return queryset.filter(reduce(or_, found), call_id=search_term.strip()), False

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Call | None:
        """Return the call whose range has its number: the range says when to look."""
        calls_ = self.get_queryset(request).select_related(*self.list_select_related)
        if not object_id.isdecimal() or len(object_id) > 18:
            return None
        waiting = UnratedCall.objects.filter(id=object_id)
        places = [
            *calls.spans_of(int(object_id)),
            *waiting.values_list("organization_id", "started_at", "started_at"),
        ]
        for organization_id, starts_at, ends_at in places:
            within = calls_.filter(organization_id=organization_id, started_at__range=(starts_at, ends_at))
            found: Call | None = within.filter(id=object_id).first()
            if found:
                return found
        return None

    @admin.display(description="Status")
    def status(self, call: Call) -> str:
        return call.kind.status

    @admin.display(description="Charged")
    def cost(self, call: Call) -> str:
        return "unrated" if call.amount_micros is None else amount(call.amount_micros, call.organization.currency)

    @admin.display(description="Correction")
    def correction(self, call: Call) -> str:
        made = revisions.of(call)
        if made is None:
            return "none: the call as first recorded"
        given_back = amount(made.given_back_micros, call.organization.currency)
        made_at = f"{made.recorded_at:%Y-%m-%d %H:%M} UTC"
        return f"{made.get_origin_display()}, {made_at}: {made.reason}\ngives back {given_back}"

    @admin.display(description="Price by component")
    def price_lines(self, call: Call) -> str:
        charge = charges.of(call)
        if charge is None:
            return "unrated"
        return "\n".join(f"{line.product}: {amount(line.micros, charge.currency)}" for line in charge.lines)

    @admin.display(description="Settled")
    def settled(self, call: Call) -> str:
        charge = charges.of(call)
        if charge is None or charge.sequence is None or charge.billed_month is None:
            return "not yet"
        return f"number {charge.sequence:,}, billed in {charge.billed_month:%Y-%m}"

    @admin.display(description="Numbers and metadata")
    def detail(self, call: Call) -> str:
        detail = calls.detail(call)
        if detail is None:
            return "none"
        return f"from {detail.from_number or '–'} to {detail.to_number or '–'}\n{json.dumps(detail.metadata, indent=1)}"


@admin.register(UnratedCall)
class UnratedCallAdmin(ReadOnlyAdmin):
    """What no price covers yet: enter a price version with the missing product, then rate."""

    list_display = ["call_id", "organization", "missing", "noticed_at"]
    list_select_related = ["organization"]
    search_fields = ["call_id__exact", "organization__name"]
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
        """What was proposed and entered was told to customers: it can be taken back, not edited."""
        is_told = obj is not None and hasattr(obj, "proposal")
        return not is_told and _is_editable(obj) and super().has_change_permission(request, obj)

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
