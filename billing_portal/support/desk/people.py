"""People, organizations and API keys on the staff desk."""

import uuid
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers

from accounts import api_keys, clock
from accounts.models import ApiKey, Letter, Membership, Organization, TermsAcceptance, User
from billing_portal.ledger import balances
from billing_portal.support.amounts import amount
from billing_portal.support.desk.read_only import ReadOnlyAdmin, ReadOnlyInline


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


@admin.register(Letter)
class LetterAdmin(ReadOnlyAdmin):
    """What was written to whom about money, and whether the mail server took it."""

    list_display = ["subject", "to", "organization", "written_at", "attempts", "sent_at"]
    list_filter = [("sent_at", admin.EmptyFieldListFilter)]
    list_select_related = ["organization"]
    search_fields = ["to__iexact", "reference__exact", "organization__name", "organization__reference"]
    exclude = ["html"]


@admin.register(TermsAcceptance)
class TermsAcceptanceAdmin(ReadOnlyAdmin):
    list_display = ["organization", "user", "version", "accepted_at"]
    list_select_related = ["organization", "user"]
    search_fields = ["user__email", "organization__name"]


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new key. `token` is minted with the form, so that a double submit makes one."""

    scopes = forms.MultipleChoiceField(choices=ApiKey.Scope, widget=forms.CheckboxSelectMultiple)
    token = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    class Meta:
        model = ApiKey
        fields = ["name", "organization", "scopes", "expires_at"]
        help_texts = {"organization": "Empty: a key of the vendor, which may record calls for every organization."}

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        organization: Organization | None = self.cleaned_data.get("organization")
        if organization and set(ApiKey.VENDOR_SCOPES) & set(self.cleaned_data.get("scopes", ())):
            self.add_error("scopes", "A key of an organization only reads.")
        if organization and organization.api_keys.usable(now=clock.now()).count() >= api_keys.MAX_USABLE:
            self.add_error("organization", str(api_keys.TooManyKeys()))
        return cleaned


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Issue and revoke keys. A secret stands in the one answer that made it, not in a message, which is a cookie."""

    form = ApiKeyForm
    list_display = [
        "name",
        "prefix",
        "organization",
        "scopes",
        "created_at",
        "created_by",
        "expires_at",
        "revoked_at",
        "last_used_at",
    ]
    list_select_related = ["organization", "created_by"]
    search_fields = ["name", "prefix", "organization__name"]
    actions = ["revoke"]

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        if obj is None:
            return ["name", "organization", "scopes", "expires_at", "token"]
        return [*self.list_display, "replaces", "revoked_by"]

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return obj is None and super().has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def save_model(self, request: Any, obj: Any, form: Any, change: bool) -> None:
        secret = ""
        try:
            key, secret = api_keys.issue(by=request.user, now=clock.now(), **form.cleaned_data)
        except api_keys.AlreadyIssued as repeated:
            key = repeated.key
            messages.warning(request, f"{repeated} If it was not copied, revoke this key and make another.")
        # `response_add` is called with the same object, which is never stored.
        obj.pk, obj.secret = key.pk, secret

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Answer with the secret itself; a form sent twice leads to the key, without it."""
        page = reverse("admin:accounts_apikey_change", args=[obj.pk])
        if not obj.secret:
            return HttpResponseRedirect(page)
        context = {
            **self.admin_site.each_context(request),
            "title": "Copy the secret",
            "key": obj,
            "secret": obj.secret,
            "page": page,
        }
        response = render(request, "staff/api_key_made.html", context)
        add_never_cache_headers(response)
        return response

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: Any, keys: Any) -> None:
        for key in keys:
            api_keys.revoke(key, by=request.user, now=clock.now())
        messages.success(request, f"{len(keys)} revoked; the next request with them is refused.")


# Pages that allauth and Django put up: secrets of second factors, sessions, and what can be changed by no rule of ours.
for _model in (Authenticator, EmailAddress, Group, UserSession):
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)
