"""Charges and what they move on the account's balance."""

from typing import TYPE_CHECKING, Any

from billing_portal.sandbox.registry import resource
from billing_portal.sandbox.rendering import as_list, render
from billing_portal.sandbox.store import Object

from . import decisions, payment_methods

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox


def _refunds(box: "Sandbox", charge: Object) -> Object:
    found = box.store.where("refund", charge=charge["id"])
    return as_list([render(box, o) for o in found[::-1]], f"/v1/charges/{charge['id']}/refunds")


def _present(box: "Sandbox", charge: Object, shown: Object) -> None:
    shown.pop("refunds", None)


resource(
    "charge",
    "ch",
    "/v1/charges",
    present=_present,
    includes={"refunds": _refunds},
    defaults={"calculated_statement_descriptor": "SANDBOX", "fraud_details": {}},
)
resource(
    "balance_transaction",
    "txn",
    "/v1/balance_transactions",
    filters={
        "source": lambda txn, value: txn["source"] == value,
        "type": lambda txn, value: txn["type"] == value,
    },
)

FEE_PERCENT = 29  # per mille
FEE_FIXED = 30
SETTLES_AFTER = 2 * 86400


def succeeded(
    box: "Sandbox", intent: Object, method: Object, presented: Object, *, captured: bool, authenticated: bool
) -> Object:
    """Record money taken (or held, if not captured), as it was presented, and what it does to the balance."""
    card = payment_methods.card_of(method)
    outcome = _outcome(
        network_status="approved_by_network",
        risk_level=card.risk,
        risk_score={"normal": 20, "elevated": 70, "highest": 90}[card.risk],
        seller_message="Payment complete.",
        type="authorized",
    )
    charge = _record(
        box, intent, method, outcome, authenticated=authenticated, status="succeeded", paid=True, **presented
    )
    if captured:
        _settle(box, charge, charge["amount"])
    box.tell(charge, "succeeded")
    return charge


def failed(box: "Sandbox", intent: Object, method: Object, decision: decisions.Decision) -> Object:
    """Record a refused attempt."""
    code = decision.decline_code or "generic_decline"
    card = payment_methods.card_of(method)
    blocked = decision.blocked_by is not None
    outcome = _outcome(
        network_status="not_sent_to_network" if blocked else "declined_by_network",
        reason=decision.blocked_by or code,
        risk_level=card.risk,
        risk_score=90 if card.risk == "highest" else 20,
        seller_message="Stripe blocked this payment." if blocked else "The bank did not return any further details.",
        type="blocked" if blocked else "issuer_declined",
    )
    charge = _record(
        box, intent, method, outcome, authenticated=False, status="failed", paid=False,
        failure_code=code if code in {"expired_card", "incorrect_cvc", "processing_error"} else "card_declined",
        failure_message=decisions.message(code),
    )  # fmt: skip
    box.tell(charge, "failed")
    return charge


def _outcome(**fields: Any) -> Object:
    neutral = {"advice_code": None, "network_advice_code": None, "network_decline_code": None, "reason": None}
    return neutral | fields


def _record(
    box: "Sandbox", intent: Object, method: Object, outcome: Object, *, authenticated: bool, **fields: Any
) -> Object:
    identifier = box.new_id("ch")
    return box.create(
        "charge",
        emit=False,
        **fields,
        id=identifier,
        amount=intent["amount"],
        currency=intent["currency"],
        customer=intent["customer"],
        description=intent["description"],
        metadata=dict(intent["metadata"]),
        payment_intent=intent["id"],
        payment_method=method["id"],
        payment_method_details=_details(box, method, authenticated=authenticated),
        billing_details=method["billing_details"],
        outcome=outcome,
        receipt_email=intent["receipt_email"],
        receipt_url=f"{box.base_url}/receipts/{identifier}" if fields["paid"] else None,
        shipping=intent["shipping"],
        statement_descriptor_suffix=intent["statement_descriptor_suffix"],
        transfer_group=intent["transfer_group"],
    )


def _details(box: "Sandbox", method: Object, *, authenticated: bool) -> Object:
    if method["type"] != "card":
        return {"type": method["type"], method["type"]: {"country": None}}
    saved = method["card"]
    card = box.schemas.neutral("payment_method_details_card")
    names = ("brand", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4", "checks")
    card |= {name: saved[name] for name in names} | {"network": saved["brand"], "regulated_status": "unregulated"}
    if authenticated:
        card["three_d_secure"] = box.schemas.neutral("three_d_secure_details_charge") | {
            "authentication_flow": "challenge",
            "electronic_commerce_indicator": "05",
            "result": "authenticated",
            "version": "2.2.0",
        }
    return {"type": "card", "card": card}


def capture(box: "Sandbox", charge: Object, amount: int) -> None:
    _settle(box, charge, amount)
    box.tell(charge, "captured")


def _settle(box: "Sandbox", charge: Object, amount: int) -> None:
    fee = (amount * FEE_PERCENT + 500) // 1000 + FEE_FIXED
    entry = balance_entry(box, charge, amount, fee, "charge")
    box.change(charge, captured=True, amount_captured=amount, balance_transaction=entry["id"])


def balance_entry(box: "Sandbox", source: Object, amount: int, fee: int, kind: str) -> Object:
    """A line on the account's balance sheet."""
    fees = [{"amount": fee, "application": None, "currency": source["currency"], "type": "stripe_fee",
             "description": "Stripe processing fees"}] if fee else []  # fmt: skip
    return box.create(
        "balance_transaction",
        amount=amount,
        available_on=box.now() + SETTLES_AFTER,
        balance_type="payments",
        currency=source["currency"],
        description=source.get("description"),
        fee=fee,
        fee_details=fees,
        net=amount - fee,
        reporting_category=kind,
        source=source["id"],
        status="pending",
        type=kind,
    )


def release(box: "Sandbox", charge: Object) -> None:
    """Give back what was held but never captured."""
    if charge["status"] == "succeeded" and not charge["captured"]:
        box.change(charge, refunded=True, amount_refunded=charge["amount"])
        box.tell(charge, "refunded")
