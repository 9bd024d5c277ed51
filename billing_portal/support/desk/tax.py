"""Whom organizations' invoices are made out to, their tax ids, and the tax of final invoices."""

from django.contrib import admin

from billing_portal.billing.models import BillingDetails, DetailsAtStripe, InvoiceParty, InvoiceTax, TaxId
from billing_portal.support.desk.read_only import ReadOnlyAdmin, shown

_BY_ORGANIZATION = ["organization__name", "organization__reference"]
_AMOUNTS = [shown("net_minor"), shown("tax_minor")]


@admin.register(BillingDetails)
class BillingDetailsAdmin(ReadOnlyAdmin):
    list_display = ["organization", "version", "legal_name", "city", "region", "country", "origin", "made_at"]
    list_filter = ["origin"]
    list_select_related = ["organization"]
    search_fields = ["legal_name", *_BY_ORGANIZATION]


@admin.register(DetailsAtStripe)
class DetailsAtStripeAdmin(ReadOnlyAdmin):
    list_display = ["organization", "details", "location", "failure"]
    list_filter = ["location"]
    list_select_related = ["organization", "details"]
    search_fields = _BY_ORGANIZATION


@admin.register(TaxId)
class TaxIdAdmin(ReadOnlyAdmin):
    list_display = ["organization", "type", "value", "country", "state", "verification", "verified_name", "added_at"]
    list_filter = ["state", "verification"]
    list_select_related = ["organization"]
    search_fields = ["value__exact", *_BY_ORGANIZATION]


@admin.register(InvoiceParty)
class InvoicePartyAdmin(ReadOnlyAdmin):
    list_display = ["invoice", "organization", "name", "purchase_order", "is_taxed", "untaxed_reason", "stored_at"]
    list_filter = ["is_taxed", "untaxed_reason"]
    list_select_related = ["organization", "invoice"]
    search_fields = ["invoice__number__exact", *_BY_ORGANIZATION]


@admin.register(InvoiceTax)
class InvoiceTaxAdmin(ReadOnlyAdmin):
    list_display = ["invoice", "organization", "country", "region", "name", "percent", "reason", *_AMOUNTS]
    list_filter = ["country", "reason"]
    list_select_related = ["organization", "invoice"]
    search_fields = ["invoice__number__exact", *_BY_ORGANIZATION]
