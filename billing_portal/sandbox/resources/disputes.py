"""Disputes: opened by the test cards made for it, decided by the evidence Stripe documents for tests."""

from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.registry import job, listener, operation, resource
from billing_portal.sandbox.store import Object

from . import charges, payment_methods

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

resource("dispute", "du", "/v1/disputes", events="charge.dispute")

FEE = 1500
ANSWER_WITHIN = 9 * 86400
OPEN = {"needs_response", "warning_needs_response"}
VERDICTS = {"winning_evidence": "won", "losing_evidence": "lost"}


@listener("payment_intent.succeeded")
def open_dispute(box: "Sandbox", intent: Object) -> None:
    """The owner of some test cards disputes every charge at once: the money is taken back until it is decided."""
    charge = box.get("charge", intent["latest_charge"])
    method = box.get("payment_method", charge["payment_method"])
    reason = payment_methods.card_of(method).dispute
    if reason is None:
        return
    inquiry = reason == "inquiry"
    details = box.schemas.blank({"$ref": "#/components/schemas/dispute_evidence_details"})
    dispute = box.create(
        "dispute",
        emit=False,
        amount=charge["amount"],
        charge=charge["id"],
        currency=charge["currency"],
        evidence_details=details | {"due_by": box.now() + ANSWER_WITHIN},
        is_charge_refundable=inquiry,
        payment_intent=charge["payment_intent"],
        payment_method_details={
            "card": {"brand": method["card"]["brand"], "case_type": "inquiry" if inquiry else "chargeback",
                     "network_reason_code": "10.4"},
            "type": "card",
        },
        reason="fraudulent" if inquiry else reason,
        status="warning_needs_response" if inquiry else "needs_response",
    )  # fmt: skip
    box.change(charge, disputed=True, _dispute_open=not inquiry)
    box.tell(dispute, "created")
    box.tell(charge, "updated", {"disputed": False})
    if not inquiry:
        _move(box, dispute, -charge["amount"], FEE, "funds_withdrawn")


def _move(box: "Sandbox", dispute: Object, amount: int, fee: int, verb: str) -> None:
    entry = charges.balance_entry(box, dispute | {"description": None}, amount, fee, "adjustment")
    shown = box.retrieve("balance_transaction", entry["id"])
    before = box.change(dispute, balance_transactions=[*dispute["balance_transactions"], shown])
    box.tell(dispute, verb, before)


@operation("POST", "/v1/disputes/{dispute}")
def update(box: "Sandbox", call: generic.Call) -> Object:
    dispute = box.get("dispute", call.id)
    if dispute["status"] not in OPEN:
        raise invalid("This dispute is closed: evidence can no longer be submitted.", param="dispute")
    params = call.params
    evidence = dispute["evidence"] | {k: v for k, v in (params.get("evidence") or {}).items() if isinstance(v, str)}
    changes: dict[str, Any] = {"evidence": evidence} | box.overlay(
        "dispute", {k: params[k] for k in ("metadata",) if k in params}, dispute
    )
    submits = params.get("submit", True) and "evidence" in params
    if submits:
        count = dispute["evidence_details"]["submission_count"] + 1
        details = {"has_evidence": True, "submission_count": count}
        changes["evidence_details"] = dispute["evidence_details"] | details
        changes["status"] = dispute["status"].replace("needs_response", "under_review")
    before = box.change(dispute, **changes)
    box.tell(dispute, "updated", before)
    if submits and evidence.get("uncategorized_text") in VERDICTS:
        box.agenda.put("dispute.decide", dispute["id"], box.now() + 1)
    return dispute


@job("dispute.decide")
def decide(box: "Sandbox", key: str) -> None:
    dispute = box.get("dispute", key)
    verdict = VERDICTS[dispute["evidence"]["uncategorized_text"]]
    _close(box, dispute, "warning_closed" if dispute["status"].startswith("warning") else verdict)


@operation("POST", "/v1/disputes/{dispute}/close")
def concede(box: "Sandbox", call: generic.Call) -> Object:
    dispute = box.get("dispute", call.ids["dispute"])
    if dispute["status"] not in OPEN:
        raise invalid("This dispute is already closed.", param="dispute")
    _close(box, dispute, "lost")
    return dispute


def _close(box: "Sandbox", dispute: Object, status: str) -> None:
    box.change(dispute, status=status)
    charge = box.get("charge", dispute["charge"])
    box.change(charge, _dispute_open=status == "lost")
    if status == "won":
        _move(box, dispute, dispute["amount"], 0, "funds_reinstated")
    box.tell(dispute, "closed")
