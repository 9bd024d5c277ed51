"""Setup intents: saving a payment method for later, with 3-D Secure where the bank asks for it."""

from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import StripeError, invalid
from billing_portal.sandbox.registry import operation, resource
from billing_portal.sandbox.store import Object

from . import decisions, intents, payment_methods

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

resource("setup_intent", "seti", "/v1/setup_intents")
resource("setup_attempt", "setatt", "/v1/setup_attempts")
resource("mandate", "mandate", "/v1/mandates")

OPEN = {"requires_payment_method", "requires_confirmation", "requires_action"}


@operation("POST", "/v1/setup_intents")
def create(box: "Sandbox", call: generic.Call) -> Object:
    params = dict(call.params)
    method = params.pop("payment_method", None)
    data = params.pop("payment_method_data", None)
    generic.check_references(box, "setup_intent", params)
    identifier = box.new_id("seti")
    fields = box.overlay("setup_intent", params) | intents.method_types(params)
    if data:
        method = payment_methods.build(box, data)["id"]
    elif method:
        method = payment_methods.resolve(box, method)["id"]
    intent = box.create(
        "setup_intent",
        **{"usage": "off_session"} | fields,
        id=identifier,
        client_secret=intents.new_secret(identifier),
        payment_method=method,
        status="requires_confirmation" if method else "requires_payment_method",
        _return_url=params.get("return_url"),
    )
    if params.get("confirm"):
        confirm_intent(box, intent, params)
    return intent


@operation("GET", "/v1/setup_intents/{intent}")
def retrieve(box: "Sandbox", call: generic.Call) -> Object:
    intent = box.get("setup_intent", call.ids["intent"])
    intents.open_by_secret(intent, call)
    return intent


@operation("POST", "/v1/setup_intents/{intent}")
def update(box: "Sandbox", call: generic.Call) -> Object:
    intent = box.get("setup_intent", call.id)
    _require(intent, OPEN, "update")
    generic.check_references(box, "setup_intent", {k: v for k, v in call.params.items() if k != "payment_method"})
    changes = box.overlay("setup_intent", call.params, intent)
    if method := changes.get("payment_method"):
        changes |= {
            "payment_method": payment_methods.resolve(box, method)["id"],
            "status": "requires_confirmation",
        }
    box.change(intent, **changes)
    return intent


@operation("POST", "/v1/setup_intents/{intent}/confirm")
def confirm(box: "Sandbox", call: generic.Call) -> Object:
    intent = box.get("setup_intent", call.ids["intent"])
    intents.open_by_secret(intent, call)
    confirm_intent(box, intent, call.params)
    return intent


@operation("POST", "/v1/setup_intents/{intent}/cancel")
def cancel(box: "Sandbox", call: generic.Call) -> Object:
    intent = box.get("setup_intent", call.ids["intent"])
    _require(intent, OPEN, "cancel")
    reason = call.params.get("cancellation_reason")
    box.change(intent, status="canceled", cancellation_reason=reason, next_action=None)
    box.tell(intent, "canceled")
    return intent


def _require(intent: Object, statuses: set[str], verb: str) -> None:
    if intent["status"] not in statuses:
        raise invalid(
            f"You cannot {verb} this SetupIntent because it has a status of {intent['status']}. Only a SetupIntent"
            f" with one of the following statuses may be {verb}ed: {', '.join(sorted(statuses))}.",
            code="setup_intent_unexpected_state",
        )


def confirm_intent(box: "Sandbox", intent: Object, params: dict[str, Any]) -> None:
    """Try to save the method; the outcome is in the intent, a refusal is also raised."""
    _require(intent, OPEN, "confirm")
    if "return_url" in params:
        box.change(intent, _return_url=params["return_url"])
    box.change(intent, _mandate_data=params.get("mandate_data"))
    try:
        method = intents.chosen_method(box, intent, params)
    except StripeError as error:
        if error.keeps_changes:
            error.members["setup_intent"] = box.retrieve("setup_intent", intent["id"])
        raise
    box.change(intent, payment_method=method["id"], last_setup_error=None)
    attempt(box, intent, method, params, authenticated=False)


def attempt(box: "Sandbox", intent: Object, method: Object, params: dict[str, Any], *, authenticated: bool) -> None:
    decision = decisions.on_setup(box, method, authenticated=authenticated)
    if decision.needs_authentication:
        _record(box, intent, method, "requires_action")
        box.change(intent, status="requires_action", next_action=intents.next_action(box, intent, params))
        box.tell(intent, "requires_action")
    elif decision.approved:
        succeed(box, intent, method, authenticated=authenticated)
    else:
        raise fail(box, intent, method, intents.failure(box, decision, method))


def succeed(box: "Sandbox", intent: Object, method: Object, *, authenticated: bool) -> None:
    """Attach the method, note the mandate, and mark it as set up so that banks ask no more."""
    if customer := intent["customer"]:
        payment_methods.attach_to(box, method, box.get("customer", customer))
    if authenticated:
        box.change(method, _authenticated=True)
    permission = None
    if intent["usage"] == "off_session":
        permission = intents.mandate(box, method, {"mandate_data": intent.get("_mandate_data")})["id"]
    if method["type"] == "card":
        checks = method["card"]["checks"]
        box.change(method, card=method["card"] | {"checks": checks | {"cvc_check": checks["cvc_check"] or "pass"}})
    _record(box, intent, method, "succeeded")
    box.change(intent, status="succeeded", next_action=None, mandate=permission, last_setup_error=None)
    box.tell(intent, "succeeded")


def fail(box: "Sandbox", intent: Object, method: Object, error: StripeError) -> StripeError:
    """Note the refusal in the intent and complete the error with it."""
    last = intents.last_error(error)
    _record(box, intent, method, "failed", setup_error=last)
    box.change(intent, status="requires_payment_method", next_action=None, last_setup_error=last, payment_method=None)
    box.tell(intent, "setup_failed")
    error.members["setup_intent"] = box.retrieve("setup_intent", intent["id"])
    return error


def _record(box: "Sandbox", intent: Object, method: Object, status: str, **fields: Any) -> None:
    """One setup attempt per try; a try that goes on after 3-D Secure keeps its record."""
    latest = box.store.get("setup_attempt", intent["latest_attempt"] or "")
    if latest and latest["status"] == "requires_action":
        box.change(latest, status=status, **fields)
        return
    details: dict[str, Any] = {"type": method["type"]}
    if method["type"] == "card":
        names = ("brand", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4")
        details["card"] = box.schemas.neutral("setup_attempt_payment_method_details_card") | {
            name: method["card"][name] for name in names
        }
    else:
        details[method["type"]] = {}
    record = box.create(
        "setup_attempt",
        setup_intent=intent["id"],
        customer=intent["customer"],
        payment_method=method["id"],
        payment_method_details=details,
        status=status,
        usage=intent["usage"],
        **fields,
    )
    box.change(intent, latest_attempt=record["id"])
