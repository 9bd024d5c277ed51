"""What billing does when the ledger tells of a changed balance."""

from typing import Any

from django.dispatch import receiver

from billing_portal.billing import purchase_tasks
from billing_portal.ledger.signals import usage_settled


@receiver(usage_settled, dispatch_uid="billing.check_top_up")
def check_top_up(sender: Any, organization_id: int, **_: Any) -> None:
    """Credit has just been burnt: see whether more is to be bought."""
    purchase_tasks.ask_to_check(organization_id)
