"""What the ledger does when it hears of new calls and outcomes, and after it has settled them."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.dispatch import receiver

from billing_portal.ledger import alerts, tasks
from billing_portal.ledger.signals import usage_settled
from usage.signals import calls_recorded, outcomes_charged

_FEW = 3


@receiver(calls_recorded, dispatch_uid="ledger.settle_recorded_calls")
@receiver(outcomes_charged, dispatch_uid="ledger.settle_charged_outcomes")
def settle_what_waits(sender: Any, organization_ids: Iterable[int], **_: Any) -> None:
    """Ask for a settlement of the organizations whose usage was just committed: of each, or of all if they are many.

    A batch for hundreds of organizations must not wait for hundreds of answers of the broker.
    """
    organization_ids = list(organization_ids)
    if len(organization_ids) > _FEW:
        tasks.ask_to_settle_all()
        return
    for organization_id in organization_ids:
        tasks.ask_to_settle(organization_id)


@receiver(usage_settled, dispatch_uid="ledger.check_alerts")
def check_alerts(sender: Any, organization_id: int, now: datetime, **_: Any) -> None:
    """Tell of thresholds that the settlement passed."""
    alerts.check(organization_id, now=now)
