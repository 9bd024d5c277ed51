"""What is asked: the parameters of a question, and the body of a reservation."""

from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
from django.http import HttpRequest
from msgspec import Meta

from accounts.problems import Problem
from billing_portal.ledger import reservations
from billing_portal.ledger.models import Direction
from usage import json_faults
from usage.api import bodies, encodings, queries

MOST_MICROS = 10**15
DEFAULT_SECONDS = 3_600

# It stands in addresses, so nothing that they would change or cut. To Python, `$` also ends before a line's end.
Reference = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:@~-]*$(?!\n)",
        max_length=128,
        description="Your own name for the reservation, such as the call's id. The same again is the same reservation.",
    ),
]
CallId = Annotated[str, Meta(pattern=r"^[^\x00]*$", max_length=128)]
Side = Literal["inbound", "outbound"]


class AuthorizationQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """For which calls is asked."""

    direction: Annotated[
        str,
        Meta(
            pattern=r"^(inbound|outbound)$(?!\n)",
            description="The direction of the calls: inbound or outbound. Without it, the stricter answer of both.",
        ),
    ] = ""
    call_id: Annotated[
        queries.Text128, Meta(description="The call that is about to start: if it may not, it is listed as refused.")
    ] = ""


class ReservationBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is to be held, and for how long."""

    reference: Reference
    amount_micros: Annotated[int, Meta(ge=1, le=MOST_MICROS, description="The most that the call will cost.")]
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$", description="The organization's.")] | None = None
    direction: Side | None = None
    call_id: Annotated[CallId, Meta(description="Once the call with this id is recorded, the reservation is used.")] = (
        ""
    )
    expires_in_seconds: Annotated[int, Meta(ge=1, le=reservations.MOST_SECONDS)] = DEFAULT_SECONDS

    def wish(self) -> reservations.Wish:
        """Return it as the ledger takes it."""
        return reservations.Wish(
            reference=self.reference,
            micros=self.amount_micros,
            lasts_seconds=self.expires_in_seconds,
            call_id=self.call_id,
            direction=direction_of(self.direction),
            currency=self.currency or "",
        )


def reservation_of(request: HttpRequest) -> ReservationBody:
    """Return the body of a reservation. Raises Problem."""
    body = bodies.read(request)
    bodies.require_type(request, "application/json")
    fields = {name: _value(name, raw) for name, raw in bodies.fields(body).items()}
    try:
        return msgspec.convert(fields, ReservationBody)
    except msgspec.ValidationError as error:
        field, reason = json_faults.of(error)
        errors = [{"field": field, "reason": reason}]
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid", "Some fields are not accepted", errors=errors) from None


def _value(name: str, raw: msgspec.Raw) -> Any:
    """Return one value; 5.0 is the whole number 5, as JSON Schema has it."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise encodings.unreadable(f"The value of {name} cannot be read.") from None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def direction_of(side: str | None) -> Direction | None:
    """Return the direction that is named."""
    return Direction(side) if side else None
