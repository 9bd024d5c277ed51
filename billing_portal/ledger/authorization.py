"""May the organization spend now, how much, and if not, why."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from accounts.models import Organization
from billing_portal.ledger import standing
from billing_portal.ledger.models import Direction
from billing_portal.ledger.standing import Standing


class Reason(StrEnum):
    """Why usage is stopped."""

    SUSPENDED = "suspended"
    FROZEN = "frozen"
    INVOICE_OVERDUE = "invoice_overdue"
    SPEND_CAP = "spend_cap"
    CREDIT_USED_UP = "credit_used_up"
    ARREARS_LIMIT = "arrears_limit"


@dataclass(frozen=True, slots=True)
class Authorization:
    """`available_micros` is what may still be spent: the least that any rule leaves, after what is held."""

    allowed: bool
    available_micros: int
    reason: Reason | None
    standing: Standing


# How much a rule leaves, in micros; below one, it is the reason. None: it has nothing to say.
Room = Callable[[Standing, Direction | None], int | None]


def _room_of_active(found: Standing, direction: Direction | None) -> int | None:
    return None if found.status == Organization.Status.ACTIVE else 0


def _room_of_unfrozen(found: Standing, direction: Direction | None) -> int | None:
    return 0 if found.is_frozen else None


def _room_of_paid_up(found: Standing, direction: Direction | None) -> int | None:
    return 0 if found.is_overdue else None


def _room_under_cap(found: Standing, direction: Direction | None) -> int | None:
    stops_at = cap_of(found, direction)
    return None if stops_at is None else stops_at - found.spent_micros - found.held_micros


def _room_of_credit(found: Standing, direction: Direction | None) -> int | None:
    return None if found.has_card else found.credit_micros - found.held_micros


def _room_on_card(found: Standing, direction: Direction | None) -> int | None:
    if not found.has_card:
        return None
    return found.credit_micros + max(0, found.arrears_limit_micros - found.accrued_micros) - found.held_micros


# In this order: the first that leaves too little is the reason that is given.
RULES: tuple[tuple[Reason, Room], ...] = (
    (Reason.SUSPENDED, _room_of_active),
    (Reason.FROZEN, _room_of_unfrozen),
    (Reason.INVOICE_OVERDUE, _room_of_paid_up),
    (Reason.SPEND_CAP, _room_under_cap),
    (Reason.CREDIT_USED_UP, _room_of_credit),
    (Reason.ARREARS_LIMIT, _room_on_card),
)


def authorize(organization_id: int, *, now: datetime, direction: Direction | None = None) -> Authorization:
    """Decide for calls of a direction, or for both, whether they may start. One indexed read. Raises AccountMissing."""
    return decide(standing.of(organization_id, now=now), direction=direction)


def decide(found: Standing, *, direction: Direction | None = None, micros: int = 1) -> Authorization:
    """Decide whether `micros` more may be spent, by the rules in their order."""
    rooms = [(reason, room(found, direction)) for reason, room in RULES]
    limiting = [(reason, left) for reason, left in rooms if left is not None]
    reason = next((reason for reason, left in limiting if left < micros), None)
    available = max(0, min(left for _, left in limiting))
    return Authorization(allowed=reason is None, available_micros=available, reason=reason, standing=found)


def owes_too_much(found: Standing) -> bool:
    """Whether usage is stopped, whatever else stops it, because no more may be owed than is owed already."""
    left = _room_on_card(found, None)
    return left is not None and left < 1


def both_ways(found: Standing) -> dict[str, Authorization]:
    """Return the decisions for people: `authorization` of inbound calls, which go on longest, and `outbound`."""
    return {
        "authorization": decide(found, direction=Direction.INBOUND),
        "outbound": decide(found, direction=Direction.OUTBOUND),
    }


def cap_of(found: Standing, direction: Direction | None) -> int | None:
    """Return the spend at which calls of a direction are refused; None where no cap stops them.

    A call of unknown direction is refused as soon as one of either direction is.
    """
    if not found.cap_stops or found.cap_micros is None:
        return None
    percents = {Direction.INBOUND: found.inbound_percent, Direction.OUTBOUND: found.outbound_percent}
    percent = percents[direction] if direction else min(percents.values())
    return found.cap_micros * percent // 100
