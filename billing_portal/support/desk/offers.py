"""Buckets on sale, entered by staff, and those that were bought, with what became of their units.

What was bought of an offer is kept; a new price is a new offer under the same code.
"""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import BooleanField, Exists, ExpressionWrapper, OuterRef, Q, QuerySet
from django.http import HttpRequest

from accounts import clock
from billing_portal.billing import bucket_offers
from billing_portal.billing.models import BucketOffer, BucketRenewal
from billing_portal.ledger.models import Bucket, BucketClaim, BucketEntry
from billing_portal.support.amounts import MicrosField
from billing_portal.support.desk.read_only import ReadOnlyAdmin, shown
from usage.models import OutcomeType

_BOOLEAN = BooleanField()
_KEPT = ["code", "currency", "outcomes", "size", "price_micros", "term_months", "starts_at"]


class BucketOfferForm(forms.ModelForm):  # type: ignore[type-arg]
    """The terms of an offer. A price that cannot be charged to a card is none."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "outcomes" in self.fields:
            self.fields["outcomes"] = forms.MultipleChoiceField(
                choices=OutcomeType.choices, widget=forms.CheckboxSelectMultiple, help_text="What it pays for."
            )
            self.fields["size"] = forms.IntegerField(min_value=1, max_value=10**9, help_text="How many outcomes.")
            self.fields["price_micros"] = MicrosField(
                label="Price",
                min_value=0,
                max_value=10**9,
                help_text="In the currency's units, before tax: 890 or 890.50.",
            )
            self.fields["term_months"] = forms.IntegerField(min_value=1, max_value=60, help_text="In months.")
            self.fields["term_months"].label = "Term"

    def clean_currency(self) -> str:
        return str(self.cleaned_data["currency"]).upper()

    def clean_outcomes(self) -> list[str]:
        return sorted(self.cleaned_data["outcomes"])

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        price, currency = self.cleaned_data.get("price_micros"), self.cleaned_data.get("currency")
        if price is not None and currency and not (price and bucket_offers.is_chargeable(price, currency)):
            self.add_error("price_micros", f"So much cannot be charged to a card in {currency}.")
        starts_at, ends_at = self.cleaned_data.get("starts_at"), self.cleaned_data.get("ends_at")
        if starts_at and ends_at and ends_at < starts_at:
            self.add_error("ends_at", "The sale ends after it starts.")
        return cleaned


@admin.register(BucketOffer)
class BucketOfferAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Offers by currency and size. Once one is bought, only its sale can end."""

    form = BucketOfferForm
    list_display = ["code", "currency", "size", shown("price_micros"), "term_months", "starts_at", "ends_at", "on_sale"]
    list_filter = ["currency"]
    search_fields = ["code"]
    ordering = ["currency", "code", "-starts_at"]
    fields = [*_KEPT, "ends_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: BucketOffer | None = None) -> list[str]:
        """What somebody bought stays as it was sold."""
        return _KEPT if obj and obj.purchases.exists() else []

    def has_delete_permission(self, request: HttpRequest, obj: BucketOffer | None = None) -> bool:
        """Withdraw an offer before it is on sale, unless somebody's renewal names it."""
        is_to_come = obj is not None and obj.starts_at > clock.now() and not obj.renewals.exists()
        return is_to_come and super().has_delete_permission(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Leave out the deletion of many: each is withdrawn by itself."""
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}

    def save_model(self, request: HttpRequest, obj: BucketOffer, form: Any, change: bool) -> None:
        if not change:
            obj.created_at = clock.now()
        super().save_model(request, obj, form, change)

    def get_queryset(self, request: HttpRequest) -> QuerySet[BucketOffer]:
        now = clock.now()
        later = BucketOffer.objects.filter(
            code=OuterRef("code"),
            currency=OuterRef("currency"),
            starts_at__gt=OuterRef("starts_at"),
            starts_at__lte=now,
        )
        has_begun = Q(starts_at__lte=now) & (Q(ends_at=None) | Q(ends_at__gt=now))
        offers: QuerySet[BucketOffer] = super().get_queryset(request)
        return offers.annotate(is_sold=ExpressionWrapper(has_begun & ~Exists(later), _BOOLEAN))

    @admin.display(boolean=True, description="On sale")
    def on_sale(self, offer: BucketOffer) -> bool:
        return bool(getattr(offer, "is_sold", False))


@admin.register(Bucket)
class BucketAdmin(ReadOnlyAdmin):
    list_display = [
        "public_id",
        "organization",
        "outcomes",
        "size",
        "remaining_units",
        "claimed_units",
        shown("price_micros"),
        "starts_at",
        "expires_at",
    ]
    list_select_related = ["organization"]
    search_fields = ["public_id__exact", "reference__exact", "organization__name", "organization__reference"]


@admin.register(BucketEntry)
class BucketEntryAdmin(ReadOnlyAdmin):
    list_display = ["bucket", "organization", "kind", "units", "occurred_at", "reference"]
    list_filter = ["kind"]
    list_select_related = ["organization", "bucket"]
    ordering = ["-pk"]
    search_fields = ["bucket__public_id__exact", "reference__exact", "organization__name", "organization__reference"]


@admin.register(BucketClaim)
class BucketClaimAdmin(ReadOnlyAdmin):
    """Payments of buckets that are disputed or went back, and what that came to in units."""

    list_display = [
        "bucket",
        "organization",
        "bought_units",
        "held_units",
        "claimed_units",
        "owed_units",
        shown("paid_micros"),
        "reason",
        "changed_at",
    ]
    list_select_related = ["organization", "bucket"]
    search_fields = ["bucket__public_id__exact", "organization__name", "organization__reference"]


@admin.register(BucketRenewal)
class BucketRenewalAdmin(ReadOnlyAdmin):
    list_display = [
        "bucket",
        "organization",
        "offer",
        "accepted_by",
        "accepted_at",
        "told_at",
        "ended_at",
        "ended_reason",
    ]
    list_select_related = ["organization", "bucket", "offer", "accepted_by"]
    search_fields = ["organization__name", "organization__reference"]
