"""Attaching seats: a licensed price of Stripe's, so many a month, whose spend the customer may move to outcomes."""

from datetime import datetime
from typing import Any

from django import forms

from billing_portal.billing import gateway, intents, seat_walk, seats
from billing_portal.billing.models import SeatPlan
from billing_portal.ledger.models import Account
from billing_portal.support.kinds.base import Change, Kind, ParamsForm, Refused
from billing_portal.support.models import StaffAction

_STRIPE_AWAY = "Stripe does not answer at the moment. Nothing was changed here; please try again in a minute."


class SeatsForm(ParamsForm):
    price = forms.RegexField(
        r"^price_\w{1,80}$", label="Stripe's price", help_text="Its id: active, licensed, monthly, in their currency."
    )
    quantity = forms.IntegerField(label="Seats", min_value=1, max_value=100_000)

    def params(self) -> dict[str, Any]:
        return {"price": self.cleaned_data["price"], "quantity": self.cleaned_data["quantity"]}


class AttachSeats(Kind):
    name = "attach_seats"
    label = "Attach seats"
    explanation = "Seats on a subscription of their own, billed in advance from the next month on. Once a customer."
    form = SeatsForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> int:
        if SeatPlan.objects.filter(organization_id=account.organization_id).exists():
            raise Refused("This customer has seats already.")
        try:
            return seat_walk.price_of(params["price"], account.currency) * int(params["quantity"])
        except seat_walk.PriceUnfit as error:
            raise Refused(str(error)) from error
        except (gateway.Unavailable, gateway.RateLimited) as error:
            raise Refused(_STRIPE_AWAY) from error

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        amount = self.amount_micros(account, params, now=now)
        month = seats.next_month(account.organization, now)
        return [
            Change(f"{params['quantity']:,} seats a month, before tax", 0, amount),
            Change("First billed", note=f"On 1 {month:%B %Y} for {month:%B}, to the default card."),
            Change("What the customer may do", note="Move spend from seats to outcomes at list price, and back."),
        ]

    def prepare(self, action: StaffAction, *, now: datetime) -> None:
        params = action.params
        try:
            seat_walk.attach(action.organization, stripe_price_id=params["price"], quantity=params["quantity"], now=now)
        except (seat_walk.PriceUnfit, seats.SeatsRefused, gateway.Refused) as error:
            raise Refused(str(error)) from error
        except (gateway.Unavailable, gateway.RateLimited, intents.OutcomeUnknown) as error:
            raise Refused(_STRIPE_AWAY) from error

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        """Nothing is left to do: the subscription is made, and noted."""
