"""The kinds of staff actions. Each says what it asks, what would happen, and does it; `ALL` is where they are found.

A new kind is a class here and a line in `ALL`: forms, preview, approval, audit and double submits are taken care of.
"""

from billing_portal.support.kinds import (
    calls,
    credit,
    credit_notes,
    debt,
    discounts,
    disputes,
    freezing,
    grace,
    numbers,
    seats,
)
from billing_portal.support.kinds.base import Change, Kind, Refused

__all__ = ["ALL", "Change", "Kind", "Refused", "named"]

ALL: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        calls.CorrectCall(),
        calls.CancelCall(),
        credit.Goodwill(),
        credit.Correction(),
        credit.TakeBack(),
        debt.Forgive(),
        debt.WriteOff(),
        credit_notes.Credit(),
        debt.Undo(),
        discounts.EnterDiscount(),
        discounts.EndDiscount(),
        disputes.GrantDispute(),
        disputes.RejectDispute(),
        freezing.Unfreeze(),
        grace.GiveTime(),
        numbers.GiveUpNumbers(),
        seats.AttachSeats(),
        seats.ChangeSeats(),
        seats.DetachSeats(),
    )
}


def named(name: str) -> Kind:
    """Return the kind of this name. Raises KeyError."""
    return ALL[name]
