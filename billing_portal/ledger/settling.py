"""Whatever waits for settlement, calls and outcomes alike."""

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


def organizations(*, limit: int) -> set[int]:
    """Return organizations in which something waits, up to `limit` of each kind."""
    return set(charges.organizations_waiting(limit=limit)) | set(outcome_charges.organizations_waiting(limit=limit))
