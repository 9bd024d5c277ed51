"""Giving credit, and taking back what is left of it."""

from datetime import date, datetime, timedelta
from typing import Any

from django import forms

from billing_portal.ledger import balances, credits, reversals
from billing_portal.ledger.models import Account, Grant
from billing_portal.support.amounts import amount
from billing_portal.support.kinds.base import AmountForm, Change, Kind, ParamsForm, Refused
from billing_portal.support.models import StaffAction
from usage import periods

_NO_REFUND = "Taking it back gives no money back. Refund the payment as well, or the customer pays for nothing."


class GoodwillForm(AmountForm):
    last_day = forms.DateField(
        label="Last day it can be spent",
        required=False,
        help_text="In the organization's time zone. Empty: it never expires.",
        widget=forms.DateInput(attrs={"type": "date"}),
    )

    field_order = ["amount", "last_day"]

    def clean_last_day(self) -> date | None:
        last_day: date | None = self.cleaned_data["last_day"]
        if last_day and last_day < periods.day_of(self.now, self.account.organization.zone):
            raise forms.ValidationError("This day is over.")
        return last_day

    def params(self) -> dict[str, Any]:
        last_day = self.cleaned_data["last_day"]
        return {**super().params(), "last_day": last_day.isoformat() if last_day else None}


class _Give(Kind):
    """Credit of one grant kind."""

    grant_kind: Grant.Kind

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> int:
        return int(params["micros"])

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        left = balances.balance(account, now=now).credit_micros
        return [
            Change("Credit left", left, left + params["micros"]),
            Change("It is spent", note=self._when(params)),
        ]

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        expires_at = self._expires_at(action.organization.account, action.params)
        if expires_at is not None and expires_at <= now:
            raise Refused("Its last day is over by now. Decline it, and ask again with a later one.")
        credits.grant(
            organization=action.organization,
            kind=self.grant_kind,
            micros=action.params["micros"],
            reference=action.reference,
            reason=action.reason,
            expires_at=expires_at,
            now=now,
        )

    def _expires_at(self, account: Account, params: dict[str, Any]) -> datetime | None:
        if not params.get("last_day"):
            return None
        return periods.starts_at(date.fromisoformat(params["last_day"]) + timedelta(days=1), account.organization.zone)

    def _when(self, params: dict[str, Any]) -> str:
        until = f"until the end of {params['last_day']}" if params.get("last_day") else "whenever: it never expires"
        earlier = [f"{kind.label.lower()}s" for kind, rank in Grant.PRIORITIES.items() if rank < self._rank]
        turn = f"after {' and '.join(earlier)}" if earlier else "before all other credit"
        return f"On usage to come, {turn}, {until}. Usage that is accrued already is not touched."

    @property
    def _rank(self) -> int:
        return Grant.PRIORITIES[self.grant_kind]


class Goodwill(_Give):
    name = "goodwill"
    label = "Give goodwill credit"
    explanation = "Credit for usage to come. To lower what is owed already, forgive it instead."
    form = GoodwillForm
    grant_kind = Grant.Kind.GOODWILL


class Correction(_Give):
    name = "correction"
    label = "Give a correction"
    explanation = "Makes good what was charged wrongly on an invoice that stands. It is spent first and never expires."
    form = AmountForm
    grant_kind = Grant.Kind.CORRECTION


class GrantField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """A grant by its kind, its day and what is left of it."""

    def label_from_instance(self, grant: Any) -> str:
        left = amount(grant.remaining_micros, grant.currency)
        return f"{grant.get_kind_display()} of {grant.created_at:%Y-%m-%d}, {left} left ({grant.reference})"


class GrantForm(ParamsForm):
    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, account=account, **kwargs)
        grants = Grant.objects.filter(organization_id=account.organization_id, remaining_micros__gt=0)
        self.fields["grant"] = GrantField(label="Credit", queryset=grants.order_by("created_at", "id"))

    def params(self) -> dict[str, Any]:
        return {"grant": self.cleaned_data["grant"].pk}


class TakeBack(Kind):
    name = "take_back"
    label = "Take credit back"
    explanation = "Takes back what is left of one grant. What was spent of it stays spent."
    form = GrantForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> int:
        return self._grant(account, params).remaining_micros

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        grant = self._grant(account, params)
        left = balances.balance(account, now=now).credit_micros
        counted = grant.remaining_micros if grant.expires_at is None or grant.expires_at > now else 0
        return [
            Change(f"Left of {grant.get_kind_display().lower()}", grant.remaining_micros, 0),
            Change("Credit left", left, left - counted),
            Change("Spent of it", note="What usage takes until then stays spent, and that much less is taken back."),
            *([Change("It was paid for", note=_NO_REFUND)] if grant.kind == Grant.Kind.PREPAID else []),
        ]

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        try:
            reversals.reverse_grant(
                organization=action.organization,
                grant_id=action.params["grant"],
                reason=action.reason,
                reference=action.reference,
                now=now,
            )
        except reversals.NothingLeft as error:
            raise Refused(str(error)) from error

    def _grant(self, account: Account, params: dict[str, Any]) -> Grant:
        grant = Grant.objects.get(pk=params["grant"], organization_id=account.organization_id)
        if not grant.remaining_micros:
            raise Refused(str(reversals.NothingLeft(grant)))
        return grant
