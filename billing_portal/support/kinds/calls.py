"""Correcting and cancelling single calls."""

from datetime import datetime
from typing import Any

from django import forms
from django.http import QueryDict

from billing_portal.ledger.models import Account
from billing_portal.support.kinds.base import Change, Kind, ParamsForm, Refused
from billing_portal.support.models import StaffAction
from usage import amendments, calls
from usage.amendments import Amendment, NotAmendable
from usage.call_objects import MAX_DURATION_MS, MAX_PRODUCTS
from usage.models import Call, Component

_MS = 1000


class CallForm(ParamsForm):
    """Which call. The revision that was looked at goes along, so that nobody corrects what another just did."""

    call_id = forms.CharField(label="Call id", max_length=128, strip=True, help_text="The vendor's id, whole.")
    revision = forms.IntegerField(widget=forms.HiddenInput, required=False)

    def __init__(self, data: QueryDict | None = None, *args: Any, account: Account, **kwargs: Any) -> None:
        named = (data or kwargs.get("initial") or {}).get("call_id", "")
        self.call = _find(account, named.strip())
        if self.call is not None:
            if data is not None and not data.get("revision"):
                data = data.copy()
                data["revision"] = str(self.call.revision)
            kwargs["initial"] = {**(kwargs.get("initial") or {}), **self.recorded(self.call)}
        super().__init__(data, *args, account=account, **kwargs)

    def recorded(self, call: Call) -> dict[str, Any]:
        """Return what the form begins with."""
        return {"revision": call.revision}

    def clean_call_id(self) -> str:
        if self.call is None:
            raise forms.ValidationError("The organization has no call with this id, or it is in the archive.")
        return self.call.call_id

    def params(self) -> dict[str, Any]:
        return {"call_id": self.cleaned_data["call_id"], "revision": self.cleaned_data["revision"]}


class CorrectionForm(CallForm):
    """What the call should have been, beginning with what is recorded."""

    seconds = forms.DecimalField(
        label="Connected seconds", min_value=0, max_value=MAX_DURATION_MS // _MS, decimal_places=3
    )
    products = forms.CharField(
        required=False,
        max_length=4_000,
        help_text="Their names, separated by commas. All of them: what is left out is not billed.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )

    def recorded(self, call: Call) -> dict[str, Any]:
        values = {"seconds": f"{call.duration_ms / _MS:.3f}", "products": ", ".join(call.mix.products)}
        return super().recorded(call) | values

    def clean_products(self) -> list[str]:
        named = sorted({name.strip() for name in self.cleaned_data["products"].split(",")} - {""})
        if len(named) > MAX_PRODUCTS or any(len(name) > 64 for name in named):
            raise forms.ValidationError(f"At most {MAX_PRODUCTS} names of up to 64 characters.")
        return named

    def params(self) -> dict[str, Any]:
        duration_ms = int(self.cleaned_data["seconds"] * _MS)
        return super().params() | {"duration_ms": duration_ms, "products": self.cleaned_data["products"]}


class _Amend(Kind):
    """A further revision of one call."""

    def wanted(self, params: dict[str, Any]) -> Amendment:
        """Return what the call should have been."""
        raise NotImplementedError

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> int:
        delta = self._change(account, params, now).delta
        return delta.charged_micros + delta.given_back_micros

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        change = self._change(account, params, now)
        given_back = change.delta.given_back
        rows = [Change(f"Price of {params['call_id']}", change.before_micros, change.after_micros)]
        rows += [
            Change(f"Given back of {Component(component).label.lower()}", 0, micros)
            for component, micros in sorted(given_back.items())
        ]
        if change.delta.charged_micros:
            rows.append(Change("Charged besides, in the month that is open", 0, change.delta.charged_micros))
        if given_back:
            how = "As credit that never expires; it pays at once for what this month has accrued."
            rows.append(Change("How it is given back", note=how))
        rows.append(Change("Invoices that are final", note="Not a byte of them changes."))
        return rows

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        params = action.params
        try:
            amendments.amend(
                action.organization,
                params["call_id"],
                self.wanted(params),
                replaces=params["revision"],
                reason=action.reason,
                author_id=action.asked_by_id,
                reference=action.reference,
                now=now,
            )
        except NotAmendable as error:
            raise Refused(str(error)) from error

    def _change(self, account: Account, params: dict[str, Any], now: datetime) -> amendments.Change:
        try:
            return amendments.preview(
                account.organization, params["call_id"], self.wanted(params), replaces=params["revision"], now=now
            )
        except NotAmendable as error:
            raise Refused(str(error)) from error


class CorrectCall(_Amend):
    name = "correct_call"
    label = "Correct a call"
    explanation = "Another length, or other products. What was charged stands; the difference is charged or given back."
    form = CorrectionForm

    def wanted(self, params: dict[str, Any]) -> Amendment:
        return Amendment(params["duration_ms"], tuple(params["products"]))


class CancelCall(_Amend):
    name = "cancel_call"
    label = "Cancel a call"
    explanation = "For a call that should cost nothing. All that it cost is given back."
    form = CallForm

    def wanted(self, params: dict[str, Any]) -> Amendment:
        return Amendment(is_cancelled=True)


def _find(account: Account, call_id: str) -> Call | None:
    if not call_id or "\0" in call_id or len(call_id) > 128:
        return None
    return calls.find(account.organization_id, call_id)
