"""Giving a customer more time to pay before usage stops."""

from datetime import datetime, timedelta
from typing import Any

from django import forms

from billing_portal.billing import overdue
from billing_portal.billing.models import Invoice, Overdue
from billing_portal.ledger.models import Account
from billing_portal.support.kinds.base import Change, Kind, ParamsForm, Refused
from billing_portal.support.models import StaffAction


class GiveTimeForm(ParamsForm):
    days = forms.IntegerField(
        label="Days from now", min_value=1, max_value=90, initial=7, help_text="Until usage stops, if nothing is paid."
    )

    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, account=account, **kwargs)
        failed = Overdue.objects.filter(organization_id=account.organization_id, ended_at=None)
        unpaid = Invoice.objects.filter(pk__in=failed.values("invoice")).order_by("id")
        self.fields["invoice"] = forms.ModelChoiceField(label="Invoice", queryset=unpaid)
        self.order_fields(["invoice", "days"])

    def params(self) -> dict[str, Any]:
        until = (self.now + timedelta(days=self.cleaned_data["days"])).replace(second=0, microsecond=0)
        return {"invoice": self.cleaned_data["invoice"].pk, "until": until.isoformat()}


class GiveTime(Kind):
    name = "give_time"
    label = "Give time to pay"
    explanation = (
        "Lets usage go on while an invoice is unpaid. The customer reads the new day, and is warned before it."
    )
    form = GiveTimeForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> None:
        return None

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        found = self._overdue(account.organization_id, params)
        until = datetime.fromisoformat(params["until"])
        return [
            Change(f"Invoice {found.invoice}", note=f"Usage stops on {until:%Y-%m-%d %H:%M} UTC, if it is not paid."),
            Change("Until now", note=f"{found.stops_at:%Y-%m-%d %H:%M} UTC."),
        ]

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        found = self._overdue(action.organization_id, action.params)
        overdue.give_time(found.invoice, until=datetime.fromisoformat(action.params["until"]))

    def _overdue(self, organization_id: int, params: dict[str, Any]) -> Overdue:
        failed = Overdue.objects.filter(organization_id=organization_id, invoice=params["invoice"], ended_at=None)
        found = failed.select_related("invoice").first()
        if found is None:
            raise Refused("The invoice is not overdue any more.")
        return found
