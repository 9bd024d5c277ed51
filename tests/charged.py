"""What was charged, as tests look at it: every call's charge, in the order of settlement."""

from typing import Any

from usage import charges
from usage.charges import Charge
from usage.models import Call


def all_charges(**filters: Any) -> list[Charge]:
    """Return the charges of all priced calls that match, by organization and sequence; what waits comes last."""
    calls = Call.objects.filter(**filters).select_related("organization", "mix", "kind", "agent")
    found = [charge for call in calls.order_by("organization_id", "id") if (charge := charges.of(call))]
    return sorted(found, key=lambda each: (each.call.organization_id, each.sequence or 10**18))


def the_charge(**filters: Any) -> Charge:
    """Return the only charge that matches."""
    (found,) = all_charges(**filters)
    return found
