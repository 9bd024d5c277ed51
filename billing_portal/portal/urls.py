"""The customer's pages: one address a page, one address an action."""

from django.urls import include, path

from billing_portal.portal.views import (
    credit,
    developers,
    home,
    invoices,
    limits,
    overview,
    payment_methods,
    purchases,
    settings,
    top_up,
    trace,
    usage,
)

_organization = [
    path("", overview.overview, name="overview"),
    path("usage/", usage.usage, name="usage"),
    path("usage/trace/", trace.trace, name="trace"),
    path("usage/calls/<str:call_id>/", usage.call, name="call"),
    path("invoices/", invoices.invoices, name="invoices"),
    path("invoices/<uuid:invoice>/", invoices.invoice, name="invoice"),
    path("invoices/<uuid:invoice>/<str:component>/", invoices.invoice_line, name="invoice_line"),
    path("credits/", credit.credits_page, name="credits"),
    path("credits/buy/", purchases.buy, name="buy_credit"),
    path("credits/buy/pay/", purchases.pay, name="buy_credit_pay"),
    path("credits/purchases/", purchases.purchase_list, name="purchases"),
    path("credits/purchases/<uuid:purchase>/", purchases.purchase, name="purchase"),
    path("credits/purchases/<uuid:purchase>/cancel/", purchases.cancel, name="purchase_cancel"),
    path("credits/top-up/", top_up.top_up, name="top_up"),
    path("credits/top-up/on/", top_up.switch_on, name="top_up_on"),
    path("credits/top-up/off/", top_up.switch_off, name="top_up_off"),
    path("limits/", limits.limits_page, name="limits"),
    path("limits/cap/", limits.set_cap, name="limits_cap"),
    path("limits/alerts/", limits.set_alerts, name="limits_alerts"),
    path("payment-methods/", payment_methods.payment_methods, name="payment_methods"),
    path("payment-methods/add/", payment_methods.add, name="payment_method_add"),
    path("payment-methods/mandate/", payment_methods.accept_mandate, name="payment_method_mandate"),
    path("payment-methods/added/", payment_methods.added, name="payment_method_added"),
    path("payment-methods/<int:method>/default/", payment_methods.make_default, name="payment_method_default"),
    path("payment-methods/<int:method>/remove/", payment_methods.remove, name="payment_method_remove"),
    path("payment-methods/stripe/", payment_methods.stripe_portal, name="stripe_portal"),
    path("developers/", developers.developers, name="developers"),
    path("developers/keys/new/", developers.key_new, name="developer_key_new"),
    path("developers/keys/<uuid:key>/", developers.key, name="developer_key"),
    path("developers/keys/<uuid:key>/rotate/", developers.key_rotate, name="developer_key_rotate"),
    path("developers/keys/<uuid:key>/revoke/", developers.key_revoke, name="developer_key_revoke"),
    path("settings/", settings.settings_page, name="settings"),
]

urlpatterns = [
    path("", home.home, name="home"),
    path("organizations/new/", home.organization_new, name="organization_new"),
    path("o/<uuid:organization>/", include(_organization)),
]
