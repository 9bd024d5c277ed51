"""Lifting the freeze that a proof of the books put on an account."""

from datetime import datetime
from typing import Any

from billing_portal.ledger import checks
from billing_portal.ledger.models import Account, Finding
from billing_portal.support.kinds.base import Change, Kind, ParamsForm, Refused
from billing_portal.support.models import StaffAction


class Unfreeze(Kind):
    name = "unfreeze"
    label = "Lift the freeze"
    explanation = "Lets money move again. What is found by now is accepted; anything new freezes the account again."
    form = ParamsForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> None:
        return None

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        if account.frozen_at is None:
            raise Refused("The account is not frozen.")
        found = Finding.objects.filter(organization_id=account.organization_id, resolved_at=None, accepted_at=None)
        return [
            *(Change("Accepted as it is", note=str(finding)) for finding in found[:20]),
            Change("From then on", note="What waits is settled and invoiced, and the customer may spend again."),
        ]

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        checks.accept(action.organization_id, now=now)
