"""Charges made without a payment intent, the old way, which Stripe's own command line still uses."""

from typing import TYPE_CHECKING

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import StripeError
from billing_portal.sandbox.registry import operation
from billing_portal.sandbox.store import Object

from . import payment_intents, payment_methods

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox


@operation("POST", "/v1/charges")
def create(box: "Sandbox", call: generic.Call) -> Object:
    """The old way to charge: a payment intent confirmed at once, of which the charge is shown."""
    params = call.params
    generic.require(params, "amount", "currency")
    source = params.get("source") or "tok_visa"
    if not isinstance(source, str):
        raise StripeError("The sandbox takes tokens only, such as tok_visa", status=501, type="api_error")
    method = payment_methods.resolve(box, source, param="source")
    intent = payment_intents.open_intent(
        box,
        amount=params["amount"],
        currency=params["currency"],
        params={"payment_method_types": ["card"]},
        payment_method=method["id"],
        customer=params.get("customer"),
        description=params.get("description"),
        metadata=params.get("metadata") or {},
        capture_method="automatic_async" if params.get("capture", True) else "manual",
    )
    payment_intents.confirm_intent(box, intent, {"error_on_requires_action": True})
    return box.get("charge", intent["latest_charge"])
