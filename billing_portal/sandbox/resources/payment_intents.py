"""Payment intents: one payment from its creation to its charge."""

from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import currencies, generic
from billing_portal.sandbox.errors import StripeError, invalid
from billing_portal.sandbox.registry import operation, resource
from billing_portal.sandbox.store import Object

from . import charges, decisions, intents, payment_methods, presentment

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

resource(
    "payment_intent",
    "pi",
    "/v1/payment_intents",
    defaults={
        "amount_capturable": 0,
        "amount_received": 0,
        "amount_details": {"tip": {}},
        "capture_method": "automatic_async",
        "confirmation_method": "automatic",
        "payment_method_options": {},
    },
)

NOT_KEPT = {"payment_details", "amount_details", "payment_method_options"}  # taken, but not shown in the answer
OPEN = {"requires_payment_method", "requires_confirmation", "requires_action"}


@operation("POST", "/v1/payment_intents")
def create(box: "Sandbox", call: generic.Call) -> Object:
    params = dict(call.params)
    method = params.pop("payment_method", None)
    data = params.pop("payment_method_data", None)
    generic.check_references(box, "payment_intent", params)
    if data:
        method = payment_methods.build(box, data)["id"]
    elif method:
        method = payment_methods.resolve(box, method)["id"]
    fields = box.overlay("payment_intent", {k: v for k, v in params.items() if k not in NOT_KEPT})
    intent = open_intent(box, payment_method=method, params=params, **fields)
    if params.get("confirm"):
        confirm_intent(box, intent, params)
    elif params.get("off_session"):
        raise invalid("`off_session` can only be used with `confirm=true`.", param="off_session")
    return intent


def open_intent(
    box: "Sandbox", *, amount: int, currency: str, params: dict[str, Any], payment_method: str | None, **fields: Any
) -> Object:
    """Make a payment intent and say so."""
    currencies.check_charge(amount, currency)
    identifier = box.new_id("pi")
    return box.create(
        "payment_intent",
        **{**fields, **intents.method_types(params)},
        id=identifier,
        amount=amount,
        currency=currency.lower(),
        client_secret=intents.new_secret(identifier),
        payment_method=payment_method,
        status="requires_confirmation" if payment_method else "requires_payment_method",
        _return_url=params.get("return_url"),
    )


@operation("GET", "/v1/payment_intents/{intent}")
def retrieve(box: "Sandbox", call: generic.Call) -> Object:
    intent = box.get("payment_intent", call.ids["intent"])
    intents.open_by_secret(intent, call)
    return intent


@operation("POST", "/v1/payment_intents/{intent}")
def update(box: "Sandbox", call: generic.Call) -> Object:
    intent = box.get("payment_intent", call.id)
    _require(intent, OPEN, "update")
    generic.check_references(box, "payment_intent", {k: v for k, v in call.params.items() if k != "payment_method"})
    changes = box.overlay("payment_intent", {k: v for k, v in call.params.items() if k not in NOT_KEPT}, intent)
    if "amount" in changes:
        currencies.check_charge(changes["amount"], changes.get("currency") or intent["currency"])
    if method := changes.get("payment_method"):
        method = payment_methods.resolve(box, method)["id"]
        changes |= {"payment_method": method, "status": "requires_confirmation"}
    box.change(intent, **changes)
    return intent


@operation("POST", "/v1/payment_intents/{intent}/confirm")
def confirm(box: "Sandbox", call: generic.Call) -> Object:
    intent = box.get("payment_intent", call.ids["intent"])
    intents.open_by_secret(intent, call)
    confirm_intent(box, intent, call.params)
    return intent


@operation("POST", "/v1/payment_intents/{intent}/cancel")
def cancel(box: "Sandbox", call: generic.Call) -> Object:
    intent = box.get("payment_intent", call.ids["intent"])
    _require(intent, OPEN | {"requires_capture"}, "cancel")
    cancel_intent(box, intent, call.params.get("cancellation_reason"))
    return intent


def cancel_intent(box: "Sandbox", intent: Object, reason: str | None) -> None:
    if charge := box.store.get("charge", intent["latest_charge"] or ""):
        charges.release(box, charge)
    box.change(
        intent,
        status="canceled",
        canceled_at=box.now(),
        cancellation_reason=reason,
        next_action=None,
        amount_capturable=0,
    )
    box.tell(intent, "canceled")


@operation("POST", "/v1/payment_intents/{intent}/capture")
def capture(box: "Sandbox", call: generic.Call) -> Object:
    intent = box.get("payment_intent", call.ids["intent"])
    _require(intent, {"requires_capture"}, "captur")
    amount = int(
        call.params["amount_to_capture"] if "amount_to_capture" in call.params else intent["amount_capturable"]
    )
    if not 0 < amount <= intent["amount_capturable"]:
        raise invalid("The amount to capture is more than the amount authorized.", param="amount_to_capture")
    charges.capture(box, box.get("charge", intent["latest_charge"]), amount)
    box.change(intent, status="succeeded", amount_received=amount, amount_capturable=0)
    box.tell(intent, "succeeded")
    return intent


def _require(intent: Object, statuses: set[str], verb: str) -> None:
    if intent["status"] not in statuses:
        raise invalid(
            f"You cannot {verb} this PaymentIntent because it has a status of {intent['status']}. Only a"
            f" PaymentIntent with one of the following statuses may be {verb}ed: {', '.join(sorted(statuses))}.",
            code="payment_intent_unexpected_state",
            payment_intent=None,
        )


def confirm_intent(box: "Sandbox", intent: Object, params: dict[str, Any]) -> None:
    """Try to charge; the outcome is in the intent, a refusal is also raised."""
    _require(intent, OPEN, "confirm")
    if "return_url" in params:
        box.change(intent, _return_url=params["return_url"])
    if usage := params.get("setup_future_usage"):
        box.change(intent, setup_future_usage=usage)
    try:
        method = intents.chosen_method(box, intent, params)
    except StripeError as error:
        if error.keeps_changes:
            error.members["payment_intent"] = box.retrieve("payment_intent", intent["id"])
        raise
    box.change(intent, payment_method=method["id"], last_payment_error=None)
    attempt(box, intent, method, params, authenticated=False)


def attempt(box: "Sandbox", intent: Object, method: Object, params: dict[str, Any], *, authenticated: bool) -> None:
    off_session = bool(params.get("off_session"))
    if off_session and intent.get("_presentment"):
        box.change(intent, _presentment=None)  # whoever chose a currency has left the page
    decision = decisions.on_payment(box, method, off_session=off_session, authenticated=authenticated)
    if decision.decline_code == "authentication_required" and intent.get("_invoice"):
        decision = decisions.Decision(needs_authentication=True)  # an invoice's payment waits for its customer
    if decision.needs_authentication and not params.get("error_on_requires_action"):
        box.change(intent, status="requires_action", next_action=intents.next_action(box, intent, params))
        box.tell(intent, "requires_action")
    elif decision.approved:
        succeed(box, intent, method, authenticated=authenticated)
    else:
        if decision.needs_authentication:
            decision = decisions.Decision("authentication_required")
        charge = charges.failed(box, intent, method, decision)
        raise fail(box, intent, method, intents.failure(box, decision, method, charge=charge["id"]))


def succeed(box: "Sandbox", intent: Object, method: Object, *, authenticated: bool) -> None:
    """Take the money, or hold it for a later capture; save the method where that was agreed."""
    holds = intent["capture_method"] == "manual"
    paid = presentment.details(box, intent)
    charge = charges.succeeded(box, intent, method, paid, captured=not holds, authenticated=authenticated)
    if intent["setup_future_usage"] and intent["customer"] and method["customer"] is None:
        payment_methods.attach_to(box, method, box.get("customer", intent["customer"]))
        box.change(method, _authenticated=authenticated or None)
    box.change(
        intent,
        status="requires_capture" if holds else "succeeded",
        next_action=None,
        last_payment_error=None,
        latest_charge=charge["id"],
        **paid,
        amount_received=0 if holds else intent["amount"],
        amount_capturable=intent["amount"] if holds else 0,
    )
    box.tell(intent, "amount_capturable_updated" if holds else "succeeded")


def fail(box: "Sandbox", intent: Object, method: Object, error: StripeError) -> StripeError:
    """Note the refusal in the intent and complete the error with it."""
    last = intents.last_error(error)
    changes: Object = {"status": "requires_payment_method", "next_action": None, "last_payment_error": last}
    box.change(intent, **changes, payment_method=None, latest_charge=last.get("charge", intent["latest_charge"]))
    box.tell(intent, "payment_failed")
    error.members["payment_intent"] = box.retrieve("payment_intent", intent["id"])
    return error
