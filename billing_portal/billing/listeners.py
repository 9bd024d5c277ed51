"""What billing does when the ledger tells of a changed balance."""

from datetime import datetime
from typing import Any

from django.dispatch import receiver

from accounts import queueing
from billing_portal.billing import interim_tasks, interims, purchase_tasks
from billing_portal.ledger.signals import usage_settled


@receiver(usage_settled, dispatch_uid="billing.check_top_up")
def check_top_up(sender: Any, organization_id: int, **_: Any) -> None:
    """Credit has just been burnt: see whether more is to be bought."""
    purchase_tasks.ask_to_check(organization_id)


@receiver(usage_settled, dispatch_uid="billing.invoice_arrears")
def invoice_arrears(sender: Any, organization_id: int, now: datetime, **_: Any) -> None:
    """Write an interim invoice if the settlement brought what is owed near its limit, and queue its walk."""
    interim = interims.write_if_due(organization_id, now=now)
    if interim is not None:
        queueing.on_commit(interim_tasks.advance_interim, interim.pk)
