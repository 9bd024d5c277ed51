"""Whatever waits for settlement, calls and outcomes alike."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from billing_portal.ledger import outcome_settlement, settlement
from usage import charges
from usage.outcomes import charges as outcome_charges
from usage.outcomes import charging


def settle_all(organization_id: int, *, now: datetime) -> int:
    """Charge outcomes that have become final, and settle until nothing waits; return how many charges that were."""
    while charging.charge_due(organization_id, now=now):
        pass
    return settlement.settle_all(organization_id, now=now) + outcome_settlement.settle_all(organization_id, now=now)


def settle_calls(organization_ids: Sequence[int], *, now: datetime) -> Counter[int]:
    """Settle the calls of several organizations, a statement for all of them, until none waits; return how many.

    Who has no books or is frozen is left out.
    """
    total: Counter[int] = Counter()
    while settled := settlement.settle_many(organization_ids, now=now):
        total += settled
    return total


def organizations(*, limit: int) -> set[int]:
    """Return organizations in which something waits, up to `limit` of each kind."""
    return set(charges.organizations_waiting(limit=limit)) | with_outcomes(limit=limit)


def with_outcomes(*, limit: int) -> set[int]:
    """Return up to `limit` organizations in which outcomes wait, which are settled one by one."""
    return set(outcome_charges.organizations_waiting(limit=limit))
