"""What is answered, as typed values: they are what is sent and what the API's description is made of."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from billing_portal.ledger import authorization
from billing_portal.ledger.authorization import Authorization, Reason
from billing_portal.ledger.models import Direction, Reservation

Micros = Annotated[int, Meta(description="Millionths of the currency's major unit.")]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
Month = Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}$")]
LiveCalls = Annotated[
    Literal["finish", "end"], Meta(description="What is to become of calls that run when usage is stopped.")
]

# What people read beside a reason that programs switch on.
DETAILS: dict[Reason, str] = {
    Reason.SUSPENDED: "The organization is suspended.",
    Reason.FROZEN: "The organization's books are being looked at; no money moves until that is done.",
    Reason.INVOICE_OVERDUE: "An invoice is unpaid for too long. Paid in the portal, usage goes on at once.",
    Reason.SPEND_CAP: "The organization's monthly cap is reached. It can be raised in the portal: Limits & alerts.",
    Reason.CREDIT_USED_UP: "The organization's credit is used up and it has no card. One can be added in the portal.",
    Reason.ARREARS_LIMIT: "What the organization owes has reached its limit. It goes on as soon as an invoice is paid.",
}


class Cap(msgspec.Struct, frozen=True):
    """The monthly cap. `stops_at_micros` is the month's usage at which calls of the asked direction are refused."""

    micros: Micros
    mode: Literal["warn", "stop"]
    stops_at_micros: Micros | None


class AuthorizationAnswer(msgspec.Struct, frozen=True):
    """Whether calls may be started now. `available_micros` is what may still be spent, held amounts taken off."""

    organization: str
    allowed: bool
    reason: Reason | None
    detail: str
    direction: Literal["inbound", "outbound"] | None
    live_calls: LiveCalls
    available_micros: Micros
    currency: Currency
    month: Month
    spent_micros: Micros
    held_micros: Micros
    credit_micros: Micros
    accrued_micros: Micros
    cap: Cap | None


class ReservationAnswer(msgspec.Struct, frozen=True):
    """An amount held for a call. It holds while it is open; it ends used, released or expired, once and for good."""

    organization: str
    reference: str
    call_id: str
    direction: Literal["inbound", "outbound"] | None
    amount_micros: Micros
    currency: Currency
    state: Literal["open", "used", "released", "expired"]
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None


def authorized(decided: Authorization, direction: Direction | None) -> AuthorizationAnswer:
    """Return a decision as it is answered."""
    found = decided.standing
    cap = None
    if found.cap_micros is not None:
        mode: Literal["warn", "stop"] = "stop" if found.cap_stops else "warn"
        cap = Cap(found.cap_micros, mode, authorization.cap_of(found, direction))
    return AuthorizationAnswer(
        organization=found.reference,
        allowed=decided.allowed,
        reason=decided.reason,
        detail=DETAILS[decided.reason] if decided.reason else "",
        direction=direction.value if direction else None,  # type: ignore[arg-type]
        live_calls="finish" if found.finishes_live_calls else "end",
        available_micros=decided.available_micros,
        currency=found.currency,
        month=f"{found.month:%Y-%m}",
        spent_micros=found.spent_micros,
        held_micros=found.held_micros,
        credit_micros=found.credit_micros,
        accrued_micros=found.accrued_micros,
        cap=cap,
    )


def reserved(reservation: Reservation, organization: str) -> ReservationAnswer:
    """Return a reservation as it is answered."""
    return ReservationAnswer(
        organization=organization,
        reference=reservation.reference,
        call_id=reservation.call_id,
        direction=reservation.direction or None,  # type: ignore[arg-type]
        amount_micros=reservation.amount_micros,
        currency=reservation.currency,
        state=reservation.state,  # type: ignore[arg-type]
        created_at=reservation.created_at,
        expires_at=reservation.expires_at,
        ended_at=reservation.ended_at,
    )
