"""People, organizations and API keys on the staff desk."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.http import HttpRequest

from accounts import api_keys, clock
from accounts.models import ApiKey, Membership, Organization, TermsAcceptance, User
from billing_portal.ledger import balances
from billing_portal.support.desk.read_only import ReadOnlyAdmin, ReadOnlyInline, amount


class MembershipInline(ReadOnlyInline):
    model = Membership
    fields = ["user", "organization", "role", "created_at"]


@admin.register(Organization)
class OrganizationAdmin(ReadOnlyAdmin):
    """The customer at a glance: who, in which currency, with what balance, under which Stripe id."""

    list_display = ["name", "reference", "currency", "time_zone", "status", "stripe_customer", "created_at"]
    list_filter = ["status", "currency"]
    search_fields = [
        "name",
        "reference",
        "public_id__iexact",
        "billing_email",
        "users__email",
        "customer__stripe_customer_id__exact",
        "customer__stripe_subscription_id__exact",
    ]
    search_help_text = "Name, reference, e-mail address or Stripe id"
    list_select_related = ["customer"]
    readonly_fields = ["stripe_customer", "credit", "accrued"]
    inlines = [MembershipInline]

    @admin.display(description="Stripe customer")
    def stripe_customer(self, organization: Organization) -> str:
        customer = getattr(organization, "customer", None)
        return customer.stripe_customer_id if customer else "–"

    @admin.display(description="Credit left")
    def credit(self, organization: Organization) -> str:
        balance = self._balance(organization)
        return amount(balance.credit_micros, balance.currency) if balance else "–"

    @admin.display(description="Accrued, not yet paid")
    def accrued(self, organization: Organization) -> str:
        balance = self._balance(organization)
        return amount(balance.accrued_micros, balance.currency) if balance else "–"

    def _balance(self, organization: Organization) -> balances.Balance | None:
        account = getattr(organization, "account", None)
        return balances.balance(account, now=clock.now()) if account else None


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    list_display = ["email", "name", "is_staff", "is_active", "last_login", "created_at"]
    list_filter = ["is_staff", "is_active"]
    search_fields = ["email", "name"]
    exclude = ["password"]
    inlines = [MembershipInline]


@admin.register(TermsAcceptance)
class TermsAcceptanceAdmin(ReadOnlyAdmin):
    list_display = ["organization", "user", "version", "accepted_at"]
    list_select_related = ["organization", "user"]
    search_fields = ["user__email", "organization__name"]


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    scopes = forms.MultipleChoiceField(choices=ApiKey.Scope, widget=forms.CheckboxSelectMultiple)

    class Meta:
        model = ApiKey
        fields = ["name", "organization", "scopes", "expires_at"]
        help_texts = {"organization": "Empty: a key of the vendor, which may record calls for every organization."}

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if self.cleaned_data.get("organization") and set(ApiKey.VENDOR_SCOPES) & set(
            self.cleaned_data.get("scopes", ())
        ):
            self.add_error("scopes", "A key of an organization only reads.")
        return cleaned


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Issue and revoke keys; a secret is shown once, when it is made."""

    form = ApiKeyForm
    list_display = [
        "name",
        "prefix",
        "organization",
        "scopes",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
    ]
    list_select_related = ["organization"]
    search_fields = ["name", "prefix", "organization__name"]
    actions = ["revoke"]

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return obj is None and super().has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        key, secret = api_keys.issue(now=clock.now(), **form.cleaned_data)
        obj.pk = key.pk
        messages.warning(request, f"Copy the secret now, it is not shown again: {secret}")

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, keys: Any) -> None:
        for key in keys:
            api_keys.revoke(key, now=clock.now())
        messages.success(request, f"{len(keys)} revoked; the next request with them is refused.")


# Pages that allauth and Django put up: secrets of second factors, sessions, and what can be changed by no rule of ours.
for _model in (Authenticator, EmailAddress, Group, UserSession):
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)
