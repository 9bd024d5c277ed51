"""What the ledger does when usage tells of new calls."""

from collections.abc import Iterable
from typing import Any

from django.dispatch import receiver

from billing_portal.ledger import tasks
from usage.signals import calls_recorded


@receiver(calls_recorded, dispatch_uid="ledger.settle_recorded_calls")
def settle_recorded_calls(sender: Any, organization_ids: Iterable[int], **_: Any) -> None:
    """Ask for a settlement of each organization whose calls were just committed."""
    for organization_id in organization_ids:
        tasks.ask_to_settle(organization_id)
