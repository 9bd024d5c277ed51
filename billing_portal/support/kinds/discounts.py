"""Discounts on what credit leaves of a month: entering one, and ending it."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django import forms

from billing_portal.billing import discounts, minor_units
from billing_portal.billing.discounts import Term
from billing_portal.billing.models import Discount
from billing_portal.ledger import totals
from billing_portal.ledger.models import Account
from billing_portal.support.amounts import amount
from billing_portal.support.kinds.base import AmountForm, Change, Kind, ParamsForm, Refused
from billing_portal.support.models import StaffAction
from usage import periods

_HUNDREDTHS = 100
_MONTHS_TO_CHOOSE = 6
# One without an end is judged by the limit as a year of it.
_MOST_MONTHS_JUDGED = 12
_MONTHS_LOOKED_AT = 3


class DiscountForm(AmountForm):
    percent = forms.DecimalField(
        label="Per cent", required=False, min_value=Decimal("0.01"), max_value=100, decimal_places=2
    )
    months = forms.IntegerField(
        label="For how many months",
        required=False,
        min_value=1,
        max_value=120,
        help_text="1: once. Empty: until it is ended.",
    )

    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, account=account, **kwargs)
        self.fields["amount"].required = False
        self.fields["amount"].label = f"Or an amount a month in {account.currency}, before tax"
        month = periods.month_of(self.now, account.organization.zone)
        choices = []
        for _ in range(_MONTHS_TO_CHOOSE):
            choices.append((month.isoformat(), f"{month:%B %Y}"))
            month = periods.next_month(month)
        self.fields["first_month"] = forms.ChoiceField(label="From", choices=choices)
        self.order_fields(["percent", "amount", "first_month", "months"])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        given = [name for name in ("percent", "amount") if cleaned.get(name)]
        if len(given) != 1 and not self.errors:
            raise forms.ValidationError("Enter either a per cent or an amount.")
        return cleaned

    def params(self) -> dict[str, Any]:
        percent = self.cleaned_data["percent"]
        return {
            "percent_hundredths": int(percent * _HUNDREDTHS) if percent else None,
            "amount_micros": super().params()["micros"] if self.cleaned_data["amount"] else None,
            "first_month": self.cleaned_data["first_month"],
            "months": self.cleaned_data["months"],
        }


class EnterDiscount(Kind):
    name = "discount"
    label = "Give a discount"
    explanation = (
        "Off each month's usage that credit does not pay, before tax: a line a component on the invoice. The customer "
        "reads it with its reason."
    )
    form = DiscountForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> int:
        """Return what it may come to: a per cent as of the dearest of the last months, or of what may be owed."""
        count = min(params["months"] or _MOST_MONTHS_JUDGED, _MOST_MONTHS_JUDGED)
        if params["amount_micros"]:
            return int(params["amount_micros"]) * count
        month, owed = periods.month_of(now, account.organization.zone), []
        for _ in range(_MONTHS_LOOKED_AT):
            of_month = totals.month(account.organization_id, month)
            owed.append(of_month.accrued_micros)
            month = periods.previous_month(month)
        most = max(owed) or account.arrears_limit_micros
        return most * int(params["percent_hundredths"]) // discounts.WHOLE_PERCENT_HUNDREDTHS * count

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        first, month = _first(params), periods.month_of(now, account.organization.zone)
        judged = self.amount_micros(account, params, now=now)
        changes = [Change("It lowers", note=_span(first, params["months"]))]
        if first <= month:
            minor = discounts.preview_minor(account.organization_id, month, _term(account, params), account.currency)
            before, after = (minor_units.to_micros(each, account.currency) for each in minor)
            changes.append(Change(f"{month:%B %Y} so far, on the invoice before tax", before, after))
        standing = discounts.current(account.organization_id, first)
        if standing:
            changes.append(Change("After others", note=f"{len(standing)} entered before are taken first."))
        return [*changes, Change("Judged by the limit as", note=f"{amount(judged, account.currency)} in all.")]

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        params = action.params
        try:
            discounts.enter(
                organization=action.organization,
                percent_hundredths=params["percent_hundredths"],
                amount_micros=params["amount_micros"],
                first_month=_first(params),
                months=params["months"],
                reason=action.reason,
                reference=action.reference,
                now=now,
            )
        except discounts.MonthClosed as error:
            raise Refused(f"{error} Decline it, and ask again for a later month.") from error


class DiscountField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """A discount by its terms and its reason."""

    def label_from_instance(self, discount: Any) -> str:
        return f"{told(discount)}: {discount.reason}"


class EndForm(ParamsForm):
    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, account=account, **kwargs)
        month = periods.month_of(self.now, account.organization.zone)
        standing = discounts.current(account.organization_id, month)
        endable = Discount.objects.filter(pk__in=[each.pk for each in standing], ended_before=None)
        self.fields["discount"] = DiscountField(label="Discount", queryset=endable.order_by("id"))
        months = (month, periods.next_month(month))
        choices = [(each.isoformat(), f"{each:%B %Y}") for each in months]
        self.fields["before"] = forms.ChoiceField(
            label="No more from", choices=choices, help_text="Its invoice and all later ones are not lowered."
        )

    def params(self) -> dict[str, Any]:
        return {"discount": self.cleaned_data["discount"].pk, "before": self.cleaned_data["before"]}


class EndDiscount(Kind):
    name = "end_discount"
    label = "End a discount"
    explanation = "Invoices that stand stay as they are."
    form = EndForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> None:
        return None

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        found, before = self._discount(account.organization_id, params), date.fromisoformat(params["before"])
        return [Change(told(found), note=f"It lowers no invoice from that of {before:%B %Y} on.")]

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        found = self._discount(action.organization_id, action.params)
        try:
            discounts.end(found, before=date.fromisoformat(action.params["before"]))
        except (discounts.MonthClosed, discounts.AlreadyEnded) as error:
            raise Refused(str(error)) from error

    def _discount(self, organization_id: int, params: dict[str, Any]) -> Discount:
        return Discount.objects.get(pk=params["discount"], organization_id=organization_id)


def told(discount: Discount) -> str:
    """Return a discount's terms as staff read them: "20 % from March 2027, for 3 months"."""
    if discount.percent_hundredths is not None:
        size = f"{Decimal(discount.percent_hundredths) / _HUNDREDTHS:f} %"
    else:
        size = f"{amount(discount.amount_micros, discount.currency)} a month"
    ended = f", ended before {discount.ended_before:%B %Y}" if discount.ended_before else ""
    return f"{size} {_span(discount.first_month, discount.months)}{ended}"


def _span(first: date, months: int | None) -> str:
    if months == 1:
        return f"in {first:%B %Y} only"
    return f"from {first:%B %Y} on, {f'for {months} months' if months else 'until it is ended'}"


def _first(params: dict[str, Any]) -> date:
    return date.fromisoformat(params["first_month"])


def _term(account: Account, params: dict[str, Any]) -> Term:
    micros = params["amount_micros"]
    minor = minor_units.from_micros(micros, account.currency) if micros else None
    return Term("asked", params["percent_hundredths"], minor)
