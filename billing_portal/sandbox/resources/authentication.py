"""The end of a 3-D Secure challenge, whichever intent it was for."""

from typing import TYPE_CHECKING

from billing_portal.sandbox.errors import StripeError, invalid, missing
from billing_portal.sandbox.store import Object

from . import decisions, intents, payment_intents, setup_intents

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

MESSAGE = "We are unable to authenticate your payment method. Please choose a different payment method and try again."


def finish(box: "Sandbox", intent_id: str, succeeded: bool) -> Object:
    """Go on with the intent after its customer passed or failed the challenge; a refusal stays in the intent."""
    intent = box.store.find(intent_id)
    if intent is None or intent["object"] not in {"setup_intent", "payment_intent"}:
        raise missing("intent", intent_id, param="intent")
    if intent["status"] != "requires_action":
        raise invalid(f"{intent_id} does not wait for authentication: its status is {intent['status']}")
    behaviour = setup_intents if intent["object"] == "setup_intent" else payment_intents
    method = box.get("payment_method", intent["payment_method"])
    if not succeeded:
        error = intents.failure(box, decisions.Decision("authentication_required"), method)
        code = f"{intent['object']}_authentication_failure"
        members = {"code": code, "message": MESSAGE, "type": "invalid_request_error"}
        error.members = members | {"payment_method": error.members["payment_method"]}
        behaviour.fail(box, intent, method, error)
        return intent
    try:
        behaviour.attempt(box, intent, method, {}, authenticated=True)
    except StripeError as error:
        if not error.keeps_changes:
            raise
    return intent
