"""What Stripe's parameters ask for and the sandbox does not do, so that nothing succeeds in silence.

Every parameter is one of three: behaviour acts on it, the object shows it as it was given, or it is refused here
with a 501 before anything happens. ``tests/stripe/test_unsupported.py`` holds every operation to that.
"""

from typing import Any

from .errors import StripeError
from .specification import Operation

EVERYWHERE = {
    "application_fee", "application_fee_amount", "application_fee_percent", "billing_schedules", "billing_thresholds",
    "confirmation_token", "customer_account", "on_behalf_of", "payment_method_configuration", "transfer_data",
}  # fmt: skip
"""Connect, accounts of the newer kind, and settings that only the dashboard has."""

REFUSED: dict[str, set[str]] = {
    "/v1/billing_portal/sessions": {"flow_data"},
    "/v1/charges": {"destination"},
    "/v1/checkout/sessions": {
        "after_expiration", "allow_promotion_codes", "consent_collection", "custom_fields",
        "excluded_payment_method_types", "invoice_creation", "managed_payments", "name_collection", "optional_items",
        "payment_method_data", "permissions", "phone_number_collection", "saved_payment_method_options",
        "shipping_address_collection", "shipping_options",
    },
    "/v1/credit_notes": {"shipping_cost"},
    "/v1/customers/{customer}": {
        "bank_account", "card", "default_alipay_account", "default_bank_account", "default_card", "default_source",
    },
    "/v1/invoices": {"from_invoice", "shipping_cost"},
    "/v1/invoices/create_preview": {"preview_mode"},
    "/v1/invoices/{invoice}": {"shipping_cost"},
    "/v1/invoices/{invoice}/lines/{line_item_id}": {"price_data", "tax_amounts", "tax_rates"},
    "/v1/invoices/{invoice}/pay": {"forgive", "mandate", "source"},
    "/v1/payment_intents": {"excluded_payment_method_types", "mandate"},
    "/v1/payment_intents/{intent}": {"excluded_payment_method_types"},
    "/v1/payment_intents/{intent}/capture": {"final_capture"},
    "/v1/payment_intents/{intent}/confirm": {"amount_to_confirm", "excluded_payment_method_types", "mandate"},
    "/v1/prices": {"transfer_lookup_key"},
    "/v1/prices/{price}": {"transfer_lookup_key"},
    "/v1/refunds": {"customer", "origin", "refund_application_fee", "reverse_transfer"},
    "/v1/setup_intents": {"attach_to_self", "excluded_payment_method_types", "flow_directions", "single_use"},
    "/v1/setup_intents/{intent}": {"attach_to_self", "excluded_payment_method_types", "flow_directions"},
    "/v1/subscription_items": {"payment_behavior", "proration_date"},
    "/v1/subscription_items/{item}": {"payment_behavior", "proration_date"},
    "/v1/subscriptions": {
        "add_invoice_items", "backdate_start_date", "default_source", "pending_invoice_item_interval",
        "trial_from_plan",
    },
    "/v1/subscriptions/{subscription_exposed_id}": {
        "add_invoice_items", "default_source", "pending_invoice_item_interval", "proration_date", "trial_from_plan",
    },
    "/v1/subscriptions/{subscription}/resume": {"proration_date"},
    "/v1/tax/calculations": {"ship_from_details", "shipping_cost"},
    "/v2/core/event_destinations": {"amazon_eventbridge", "azure_event_grid", "events_from"},
}  # fmt: skip

WITHOUT_EFFECT: dict[str, set[str]] = {
    "/v1/credit_notes": {"email_type"},
    "/v1/payment_intents": {"radar_options"},
    "/v1/payment_intents/{intent}/confirm": {"mandate_data", "radar_options"},
    "/v1/subscriptions": {"off_session"},
    "/v1/subscriptions/{subscription_exposed_id}": {"off_session"},
    "/v1/subscription_items/{item}": {"off_session"},
    "/v2/core/event_destinations": {"include"},
}
"""Taken and not acted on: no e-mail is sent, there is no risk session, and what a subscription charges by itself is
charged with its owner absent whatever is said."""


def refuse(operation: Operation, params: dict[str, Any]) -> None:
    """Refuse a parameter that asks for what the sandbox has not; one that asks for nothing may stay."""
    for name, value in params.items():
        if name in EVERYWHERE | REFUSED.get(operation.path, set()) and _asks(value):
            message = f"The sandbox does not implement {name} of {operation.method} {operation.path}."
            raise StripeError(message, status=501, type="api_error", param=name)


def _asks(value: Any) -> bool:
    if isinstance(value, dict) and "enabled" in value:
        return bool(value["enabled"])
    return value not in (None, False, "", {}, [])
