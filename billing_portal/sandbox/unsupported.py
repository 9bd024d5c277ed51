"""What Stripe's parameters ask for and the sandbox does not do, so that nothing succeeds in silence.

Every parameter, at every depth, is one of four: behaviour acts on it, an object shows it as it was given, it is
refused here with a 501 before anything happens, or it is named in ``WITHOUT_EFFECT``; the tests hold every operation
to that. Members of a hash, or of each entry of a list, are written with a dot.
"""

from typing import Any

from .errors import StripeError
from .specification import Operation

EVERYWHERE = {
    "application_fee", "application_fee_amount", "application_fee_percent", "billing_schedules", "billing_thresholds",
    "confirmation_token", "customer_account", "default_tax_rates", "discounts", "on_behalf_of",
    "payment_method_configuration", "tax_rates", "transfer_data", "transfer_group",
}  # fmt: skip
"""At any depth: Connect, discounts, taxes by hand, accounts of the newer kind, and what only the dashboard sets up."""

VALUES = {
    "payment_behavior": {"pending_if_incomplete"},
    "payment_method_collection": {"if_required"},
    "proration_behavior": {"always_invoice"},
    "save_default_payment_method": {"on_subscription"},
    "ui_mode": {"elements", "embedded_page"},
}
"""At any depth: values of parameters that are otherwise acted on."""

_INSTALLMENTS = "payment_settings.payment_method_options.card.installments"
REFUSED: dict[str, set[str]] = {
    "/v1/billing_portal/sessions": {"flow_data"},
    "/v1/charges": {"card", "destination"},
    "/v1/checkout/sessions": {
        "after_expiration", "allow_promotion_codes", "consent_collection", "custom_fields",
        "excluded_payment_method_types", "managed_payments", "name_collection", "optional_items",
        "payment_method_data", "permissions", "phone_number_collection", "saved_payment_method_options",
        "shipping_address_collection", "shipping_options", "line_items.adjustable_quantity",
        "line_items.dynamic_tax_rates", "line_items.metadata", "invoice_creation.invoice_data.account_tax_ids",
        "invoice_creation.invoice_data.issuer", "invoice_creation.invoice_data.rendering_options",
        "subscription_data.pending_invoice_item_interval",
    },
    "/v1/checkout/sessions/{session}": {"line_items", "shipping_options"},
    "/v1/credit_notes": {"shipping_cost", "lines.tax_amounts"},
    "/v1/customers/{customer}": {
        "bank_account", "card", "default_alipay_account", "default_bank_account", "default_card", "default_source",
        "source",
    },
    "/v1/invoiceitems/{invoiceitem}": {"tax_code"},
    "/v1/invoices": {"from_invoice", "shipping_cost", _INSTALLMENTS},
    "/v1/invoices/create_preview": {
        "customer_details", "preview_mode", "schedule", "schedule_details", "invoice_items.price_data",
        "invoice_items.quantity_decimal", "invoice_items.tax_code",
        "invoice_items.unit_amount", "invoice_items.unit_amount_decimal", "subscription_details.billing_cycle_anchor",
        "subscription_details.billing_mode", "subscription_details.cancel_at",
        "subscription_details.cancel_at_period_end", "subscription_details.cancel_now",
        "subscription_details.proration_date",
        "subscription_details.resume_at", "subscription_details.start_date", "subscription_details.trial_end",
    },
    "/v1/invoices/{invoice}": {"days_until_due", "shipping_cost", _INSTALLMENTS},
    "/v1/invoices/{invoice}/lines/{line_item_id}": {"price_data", "pricing", "tax_amounts"},
    "/v1/invoices/{invoice}/pay": {"forgive", "mandate", "source"},
    "/v1/payment_intents": {"excluded_payment_method_types", "mandate"},
    "/v1/payment_intents/{intent}": {"excluded_payment_method_types", "payment_method_data"},
    "/v1/payment_intents/{intent}/capture": {"final_capture"},
    "/v1/payment_intents/{intent}/confirm": {"amount_to_confirm", "excluded_payment_method_types", "mandate"},
    "/v1/prices": {"custom_unit_amount", "transfer_lookup_key"},
    "/v1/prices/{price}": {"transfer_lookup_key"},
    "/v1/products": {"default_price_data.custom_unit_amount"},
    "/v1/refunds": {"customer", "origin", "refund_application_fee", "reverse_transfer"},
    "/v1/setup_intents": {"attach_to_self", "excluded_payment_method_types", "flow_directions", "single_use"},
    "/v1/setup_intents/{intent}": {
        "attach_to_self", "excluded_payment_method_types", "flow_directions", "payment_method_data",
    },
    "/v1/subscription_items": {"payment_behavior", "proration_date"},
    "/v1/subscription_items/{item}": {"payment_behavior", "price_data", "proration_date"},
    "/v1/subscriptions": {
        "add_invoice_items", "backdate_start_date", "default_source", "pending_invoice_item_interval",
        "trial_from_plan",
    },
    "/v1/subscriptions/{subscription_exposed_id}": {
        "add_invoice_items", "default_source", "pending_invoice_item_interval", "prorate", "proration_date",
        "trial_from_plan",
    },
    "/v1/subscriptions/{subscription}/resume": {"proration_behavior", "proration_date"},
    "/v1/test_helpers/test_clocks": {"customer"},
    "/v1/tax/calculations": {"ship_from_details", "shipping_cost"},
    "/v2/core/event_destinations": {"amazon_eventbridge", "azure_event_grid", "events_from"},
}  # fmt: skip

_PAYMENT = {"amount_details", "mandate_data", "payment_details", "payment_method_options", "radar_options"}
WITHOUT_EFFECT: dict[str, set[str]] = {
    "/v1/checkout/sessions": {
        "customer_update.shipping",
        "payment_method_options",
        "subscription_data.proration_behavior",
    },
    "/v1/customers": {"tax.ip_address"},
    "/v1/customers/{customer}": {"tax.ip_address"},
    "/v1/invoices/create_preview": {"subscription_details.items.clear_usage"},
    "/v1/credit_notes": {"email_type"},
    "/v1/payment_intents": _PAYMENT,
    "/v1/payment_intents/{intent}": {"amount_details", "payment_details", "payment_method_options"},
    "/v1/payment_intents/{intent}/capture": {"amount_details", "payment_details"},
    "/v1/payment_intents/{intent}/confirm": _PAYMENT,
    "/v1/setup_intents": {"payment_method_options"},
    "/v1/setup_intents/{intent}": {"payment_method_options"},
    "/v1/setup_intents/{intent}/confirm": {"payment_method_options"},
    "/v1/subscription_items/{item}": {"clear_usage", "off_session"},
    "/v1/subscriptions": {"off_session", "proration_behavior"},
    "/v1/subscriptions/{subscription_exposed_id}": {"items.clear_usage", "off_session", "payment_behavior"},
    "/v1/tax/calculations": {"line_items.metadata"},
    "/v2/core/event_destinations": {"include"},
}
"""Taken and not acted on: details for banks, options of payment methods, risk sessions and e-mails, none of which there
are here; a subscription charges with its owner absent whatever is said, its first licensed period is always charged
whole, its changes charge nothing at once, and an item takes its usage along."""


def refuse(operation: Operation, params: dict[str, Any]) -> None:
    """Refuse a parameter that asks for what the sandbox has not; one that asks for nothing may stay."""
    _refuse(operation, params, REFUSED.get(operation.path, set()), "")


def _refuse(operation: Operation, params: dict[str, Any], refused: set[str], prefix: str) -> None:
    for name, value in params.items():
        path = prefix + name
        if (name in EVERYWHERE or path in refused) and _asks(value):
            raise _not_here(operation, path)
        if isinstance(value, str) and value in VALUES.get(name, ()):
            raise _not_here(operation, path, value)
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict) and name != "metadata":
                _refuse(operation, inner, refused, f"{path}.")


def _not_here(operation: Operation, path: str, value: str = "") -> StripeError:
    what = f"{path}={value}" if value else path
    message = f"The sandbox does not implement {what} of {operation.method} {operation.path}."
    return StripeError(message, status=501, type="api_error", param=path)


def _asks(value: Any) -> bool:
    if isinstance(value, dict) and "enabled" in value:
        return bool(value["enabled"])
    return value not in (None, False, "", {}, [])
