"""Refunds: never more than was taken, in full or in parts."""

from typing import TYPE_CHECKING

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.registry import job, operation, resource
from billing_portal.sandbox.store import Object

from . import charges, payment_methods, presentment

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

resource("refund", "re", "/v1/refunds", filters={})


@operation("POST", "/v1/refunds")
def create(box: "Sandbox", call: generic.Call) -> Object:
    charge = _charge(box, call.params)
    return refund(
        box,
        charge,
        call.params.get("amount"),
        reason=call.params.get("reason"),
        metadata={k: v for k, v in (call.params.get("metadata") or {}).items() if v != ""},
    )


def _charge(box: "Sandbox", params: dict[str, str]) -> Object:
    if "charge" in params:
        return box.get("charge", params["charge"], param="charge")
    if "payment_intent" not in params:
        raise invalid("One of the following params should be provided for this request: payment_intent or charge.")
    intent = box.get("payment_intent", params["payment_intent"], param="payment_intent")
    charge = box.store.get("charge", intent["latest_charge"] or "")
    if charge is None or charge["status"] != "succeeded":
        raise invalid(
            f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
            param="payment_intent",
        )
    return charge


def refund(
    box: "Sandbox", charge: Object, amount: int | None, *, reason: str | None, metadata: dict[str, str]
) -> Object:
    """Give money of one charge back."""
    left = charge["amount_captured"] - charge["amount_refunded"]
    _refuse(box, charge, amount, left)
    amount = left if amount is None else amount
    behaviour = payment_methods.card_of(box.get("payment_method", charge["payment_method"])).refund
    entry = charges.balance_entry(box, charge, -amount, 0, "refund")
    made = box.create(
        "refund",
        **presentment.part(charge, amount),
        amount=amount,
        currency=charge["currency"],
        charge=charge["id"],
        payment_intent=charge["payment_intent"],
        balance_transaction=entry["id"],
        reason=reason,
        metadata=metadata,
        status="pending" if behaviour == "pending" else "succeeded",
        destination_details={"type": "card", "card": {"type": "refund", "reference_status": "pending"}},
    )
    box.change(entry, source=made["id"])
    refunded = charge["amount_refunded"] + amount
    before = box.change(charge, amount_refunded=refunded, refunded=refunded == charge["amount"])
    box.emit("charge.refunded", charge, before)
    if behaviour:
        box.agenda.put(f"refund.{behaviour}", made["id"], box.now() + 1)
    return made


def _refuse(box: "Sandbox", charge: Object, amount: int | None, left: int) -> None:
    if charge["disputed"] and charge.get("_dispute_open"):
        raise invalid(f"Charge {charge['id']} has been charged back; cannot issue a refund.",
                      code="charge_disputed", param="charge")  # fmt: skip
    if left <= 0:
        raise invalid(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    if amount is not None and amount < 1:
        raise invalid("Invalid positive integer", param="amount", code="parameter_invalid_integer")
    if amount is not None and amount > left:
        raise invalid(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", param="amount")


@job("refund.pending")
def complete(box: "Sandbox", key: str) -> None:
    made = box.get("refund", key)
    _tell_update(box, made, box.change(made, status="succeeded"))


@operation("POST", "/v1/refunds/{refund}")
def update(box: "Sandbox", call: generic.Call) -> Object:
    made = box.get("refund", call.id)
    _tell_update(box, made, box.change(made, **box.overlay("refund", call.params, made)))
    return made


def _tell_update(box: "Sandbox", made: Object, before: Object) -> None:
    """Stripe has two names for this event, and sends both."""
    for name in ("refund.updated", "charge.refund.updated"):
        box.emit(name, made, before)


@job("refund.failed")
def fail(box: "Sandbox", key: str) -> None:
    """The bank could not take the money back: it returns to the account's balance."""
    made = box.get("refund", key)
    charge = box.get("charge", made["charge"])
    entry = charges.balance_entry(box, charge, made["amount"], 0, "refund_failure")
    box.change(
        made,
        status="failed",
        failure_reason="expired_or_canceled_card",
        failure_balance_transaction=entry["id"],
    )
    box.change(charge, amount_refunded=charge["amount_refunded"] - made["amount"], refunded=False)
    box.tell(made, "failed")
