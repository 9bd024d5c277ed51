"""What every kind of staff action has in common."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms

from accounts.models import Organization
from billing_portal.billing import minor_units
from billing_portal.ledger.models import Account
from billing_portal.support.models import StaffAction
from usage.money import MICROS_PER_UNIT


class Refused(Exception):
    """The action cannot be done as things are; the message says why, for staff to read."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure before and after an action, in micros; or a plain sentence, where there is no figure."""

    label: str
    before_micros: int | None = None
    after_micros: int | None = None
    note: str = ""


class Kind:
    """One kind of action. `params` are what its form gives, as JSON keeps it."""

    name: str
    label: str  # "Give goodwill credit"
    explanation: str
    form: type["ParamsForm"]

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> int | None:
        """Return what the limit is judged by; None for an action that moves no money by itself. Raises Refused."""
        raise NotImplementedError

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        """Return what would happen, to the micro, if it were done now. Raises Refused."""
        raise NotImplementedError

    def prepare(self, action: StaffAction, *, now: datetime) -> None:
        """Do what must be done outside of any transaction, before `perform`; safe to repeat. Raises Refused."""

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        """Do it, in the caller's transaction, once by `action.reference`. Raises Refused."""
        raise NotImplementedError


class ParamsForm(forms.Form):
    """What a kind asks beside the reason. `account` is the organization's, for choices and decimals."""

    def __init__(self, *args: Any, account: Account, now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.account = account
        self.now = now

    def params(self) -> dict[str, Any]:
        """Return what was entered, as JSON keeps it."""
        return {}


class AmountForm(ParamsForm):
    """An amount in the currency's major unit, with as many decimals as the currency has."""

    amount = forms.DecimalField(min_value=0, max_digits=14)

    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, account=account, **kwargs)
        digits = minor_units.exponent(account.currency)
        smallest = Decimal(1).scaleb(-digits)
        field = forms.DecimalField(
            label=f"Amount in {account.currency}",
            min_value=smallest,
            max_value=Decimal(9_999_999),
            max_digits=14,
            decimal_places=digits,
        )
        self.fields["amount"] = field

    def params(self) -> dict[str, Any]:
        return {"micros": int(self.cleaned_data["amount"] * MICROS_PER_UNIT)}


def account_of(organization: Organization) -> Account:
    """Return the organization's account with what authorization needs. Raises Account.DoesNotExist."""
    return Account.objects.select_related("organization").get(organization=organization)
