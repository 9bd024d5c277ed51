"""What setup intents and payment intents share: secrets, payment methods, next actions, failures."""

import secrets
from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import cards, generic
from billing_portal.sandbox.errors import StripeError, declined, invalid
from billing_portal.sandbox.rendering import render
from billing_portal.sandbox.store import Object

from . import decisions, payment_methods

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox


def new_secret(identifier: str) -> str:
    return f"{identifier}_secret_{secrets.token_urlsafe(18).replace('-', 'x').replace('_', 'y')}"


def method_types(params: dict[str, Any]) -> dict[str, Any]:
    """Automatic payment methods unless types are named; the sandbox's account takes cards and Link."""
    if "payment_method_types" in params:
        return {"payment_method_types": params["payment_method_types"], "automatic_payment_methods": None}
    automatic = {"allow_redirects": "always", "enabled": True} | (params.get("automatic_payment_methods") or {})
    types = ["card", "link"] if automatic["enabled"] else ["card"]
    return {"payment_method_types": types, "automatic_payment_methods": automatic}


def open_by_secret(intent: Object, call: generic.Call) -> None:
    """A browser has to know the intent's secret; with the account's own key it may be left out."""
    given = call.params.get("client_secret")
    if given is None and call.is_secret:
        return
    if not given or not secrets.compare_digest(given.encode(), intent["client_secret"].encode()):
        noun = "setup_intent" if intent["object"] == "setup_intent" else "payment_intent"
        raise invalid(
            f"The client_secret provided does not match any associated {noun} on this account.",
            param="client_secret",
            code="resource_missing",
        )


def chosen_method(box: "Sandbox", intent: Object, params: dict[str, Any]) -> Object:
    """The payment method a confirmation names, brings along as data, or was set before."""
    if data := params.get("payment_method_data"):
        method = payment_methods.build(box, data)
    elif name := params.get("payment_method") or intent["payment_method"]:
        method = payment_methods.resolve(box, name)
    else:
        raise invalid(
            "You cannot confirm this intent because it's missing a payment method. Update the intent with a payment"
            " method and then confirm it again.",
            code=f"{intent['object']}_unexpected_state",
        )
    _check_owner(intent, method)
    if method["type"] not in intent["payment_method_types"]:
        raise invalid(
            f"The PaymentMethod provided ({method['type']}) is not allowed for this intent. Please attach a"
            " PaymentMethod of a supported type.",
            param="payment_method",
            code="payment_method_invalid_parameter",
        )
    return method


def _check_owner(intent: Object, method: Object) -> None:
    owner = method["customer"]
    if owner and owner != intent["customer"]:
        raise invalid(
            f"The payment method {method['id']} belongs to another customer. Please include the customer in the"
            " `customer` parameter."
            if intent["customer"] is None
            else f"The payment method {method['id']} does not belong to the customer you supplied"
            f" {intent['customer']}. Please use this payment method with the customer that it belongs to instead.",
            param="payment_method",
        )
    if method.get("_detached"):
        raise invalid(
            "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment or was"
            " detached from a Customer. It may not be used again.",
            param="payment_method",
        )


def next_action(box: "Sandbox", intent: Object, params: dict[str, Any]) -> Object:
    """Where the customer proves who they are: a redirect, or Stripe.js' own dialog when no return_url is known."""
    url = f"{box.base_url}/3ds/{intent['id']}?client_secret={intent['client_secret']}"
    back = params.get("return_url") or intent.get("_return_url")
    if params.get("use_stripe_sdk") or not back:
        return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect", "stripe_js": url}}
    return {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": back}}


def failure(box: "Sandbox", decision: decisions.Decision, method: Object, *, charge: str | None = None) -> StripeError:
    """The card error for a decision, with the payment method as it was tried."""
    code = decision.decline_code or "generic_decline"
    advice = None if code == "authentication_required" else "try_again_later"
    if code in cards.HARD_DECLINES and code != "authentication_required":
        advice = "do_not_try_again"
    return declined(
        decisions.message(code),
        code=cards.error_code(code),
        decline_code=code,
        advice_code=advice,
        charge=charge,
        payment_method=render(box, method),
    )


def last_error(error: StripeError) -> Object:
    """The error as the intent keeps it: without a copy of the intent in itself."""
    return {k: v for k, v in error.members.items() if k not in {"payment_intent", "setup_intent"}}


def mandate(box: "Sandbox", method: Object, params: dict[str, Any]) -> Object:
    """The customer's permission to charge the method later."""
    given = (params.get("mandate_data") or {}).get("customer_acceptance") or {}
    acceptance: dict[str, Any] = {"accepted_at": box.now(), "type": given.get("type", "online")}
    if acceptance["type"] == "online":
        online = given.get("online") or {}
        acceptance["online"] = {"ip_address": online.get("ip_address"), "user_agent": online.get("user_agent")}
    else:
        acceptance["offline"] = {}
    return box.create(
        "mandate",
        customer_acceptance=acceptance,
        payment_method=method["id"],
        payment_method_details={"type": method["type"], method["type"]: {}},
        status="active",
        type="multi_use",
        multi_use={},
    )
