"""Deciding what a customer disputes: granted with credit, or rejected with a reason."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django import forms

from billing_portal.billing.disputes import cases, subjects
from billing_portal.billing.models import Dispute
from billing_portal.ledger import balances
from billing_portal.ledger.models import Account
from billing_portal.support.amounts import amount
from billing_portal.support.kinds.base import AmountForm, Change, Kind, ParamsForm, Refused
from billing_portal.support.models import StaffAction


class DisputeForm(ParamsForm):
    """Which dispute; the page of the dispute names it."""

    dispute = forms.UUIDField(widget=forms.HiddenInput)

    def clean_dispute(self) -> UUID:
        public_id: UUID = self.cleaned_data["dispute"]
        if not Dispute.objects.filter(organization_id=self.account.organization_id, public_id=public_id).exists():
            raise forms.ValidationError("The organization has no such dispute.")
        return public_id

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if "dispute" in self.errors:
            self.add_error(None, "Begin from the page of a dispute.")
        return cleaned

    def params(self) -> dict[str, Any]:
        return {**super().params(), "dispute": str(self.cleaned_data["dispute"])}


class GrantForm(DisputeForm, AmountForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["amount"]
        assert isinstance(field, forms.DecimalField)
        field.min_value, field.validators = 0, [each for each in field.validators if not _is_minimum(each)]
        field.help_text = "Zero, where correcting the call has given it back already."


def _is_minimum(validator: Any) -> bool:
    return getattr(validator, "code", "") == "min_value"


class _Decide(Kind):
    def find(self, account: Account, params: dict[str, Any]) -> Dispute:
        """Return the dispute while it is open. Raises Refused."""
        disputes = Dispute.objects.select_related("organization")
        found = disputes.filter(organization_id=account.organization_id, public_id=params["dispute"]).first()
        if found is None or not found.is_open:
            raise Refused("The dispute is decided or withdrawn already.")
        return found


class GrantDispute(_Decide):
    name = "grant_dispute"
    label = "Grant a dispute"
    explanation = "Gives back what was billed wrongly: off an open invoice, else as credit that never expires."
    form = GrantForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> int:
        return int(params["micros"])

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        dispute, micros = self.find(account, params), params["micros"]
        _assert_givable(dispute, micros)
        left = balances.balance(account, now=now).credit_micros
        return [
            Change(dispute.label, note=f"{amount(dispute.claimed_micros, dispute.currency)} are asked for."),
            Change("Given back of it", 0, micros),
            *_how(dispute, left, micros),
            Change("Invoices that are final", note="Not a byte of them changes."),
        ]

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        dispute = self.find(action.organization.account, action.params)
        _assert_givable(dispute, action.params["micros"])
        try:
            cases.grant(dispute, micros=action.params["micros"], decision=action.reason, by=action.asked_by, now=now)
        except (cases.AlreadyDecided, cases.TooMuch, subjects.SubjectMissing) as error:
            raise Refused(str(error)) from error


class RejectDispute(_Decide):
    name = "reject_dispute"
    label = "Reject a dispute"
    explanation = "Gives nothing back. The customer reads why, and may open another one."
    form = DisputeForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> None:
        return None

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        dispute = self.find(account, params)
        return [
            Change(dispute.label, note=f"{amount(dispute.claimed_micros, dispute.currency)} are asked for."),
            Change("Given back of it", note="Nothing. The dispute is closed, and the customer is written to."),
        ]

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        dispute = self.find(action.organization.account, action.params)
        try:
            cases.reject(dispute, decision=action.reason, by=action.asked_by, now=now)
        except cases.AlreadyDecided as error:
            raise Refused(str(error)) from error


def _how(dispute: Dispute, credit_left_micros: int, micros: int) -> list[Change]:
    if micros and cases.lowers_an_invoice(dispute):
        return [Change("How it is given back", note="Off the open invoice, by a credit note with the tax on it.")]
    return [Change("Credit left", credit_left_micros, credit_left_micros + micros)]


def _assert_givable(dispute: Dispute, micros: int) -> None:
    try:
        most, was_corrected = cases.givable(dispute)
    except subjects.SubjectMissing as error:
        raise Refused(f"{dispute.label} is not there any more.") from error
    if micros > most:
        most_in_words = amount(most, dispute.currency)
        raise Refused(f"At most {most_in_words} can be given back: what it costs now, less what was given back.")
    if not micros and not was_corrected:
        raise Refused("Nothing was corrected since. Give something back, correct the call first, or reject it.")
