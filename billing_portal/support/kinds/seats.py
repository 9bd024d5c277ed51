"""Seats: attaching a licensed price of Stripe's, selling more or fewer, and detaching them.

The customer may move what is spent on them to outcomes, and back.
"""

from datetime import datetime
from typing import Any

from django import forms

from billing_portal.billing import gateway, intents, seat_walk, seats
from billing_portal.billing.models import SeatMove, SeatPlan
from billing_portal.billing.seats import Preview
from billing_portal.ledger import accounts
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
    explanation = "Seats on a subscription of their own, billed in advance from the next month on."
    form = SeatsForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> int:
        if SeatPlan.objects.filter(organization_id=account.organization_id, detached_at=None).exists():
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


class SoldForm(ParamsForm):
    base_seats = forms.IntegerField(label="Seats sold from the next month on", min_value=1, max_value=100_000)

    def params(self) -> dict[str, Any]:
        return {"base_seats": self.cleaned_data["base_seats"]}


class ChangeSeats(Kind):
    name = "change_seats"
    label = "Change how many seats are sold"
    explanation = "More or fewer seats from the next month on. What the customer moved to outcomes stays moved."
    form: type[ParamsForm] = SoldForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> int:
        """Judge by what is billed more or less a month."""
        return abs(self._sides(account, params, now).change_micros)

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        sides = self._sides(account, params, now)
        before, after = sides.before, sides.after
        return [
            Change(f"Seats a month: {before.seats:,} → {after.seats:,}", before.seats_micros, after.seats_micros),
            Change(f"Outcomes a month: {before.units:,} → {after.units:,}", before.units_micros, after.units_micros),
            Change("Billed a month, before tax", before.total_micros, after.total_micros),
            Change("Counts from", note=f"{sides.month:%B %Y}, when Stripe has confirmed both sides."),
        ]

    def prepare(self, action: StaffAction, *, now: datetime) -> None:
        """Ask, and take it to Stripe; what Stripe does not answer now, the sweep finishes with the same key."""
        try:
            plan = _plan(action.organization.account)
            move = seats.sell(
                plan,
                base_seats=self._base_seats(action.params),
                public_id=action.public_id,
                by=action.asked_by,
                now=now,
            )
        except (seats.SeatsRefused, accounts.AccountFrozen) as error:
            raise Refused(str(error)) from error
        if seat_walk.advance(move, now=now).state == SeatMove.State.REFUSED:
            raise Refused(f"{move.reason} Neither side was changed.")

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        """Nothing is left to do: the move is asked for, and Stripe's confirmation makes it count."""

    def _sides(self, account: Account, params: dict[str, Any], now: datetime) -> Preview:
        try:
            return seats.preview_sold(_plan(account), base_seats=self._base_seats(params), now=now)
        except seats.SeatsRefused as error:
            raise Refused(str(error)) from error

    def _base_seats(self, params: dict[str, Any]) -> int:
        return int(params["base_seats"])


class DetachSeats(ChangeSeats):
    name = "detach_seats"
    label = "Detach seats"
    explanation = "Ends the seats and the outcomes of the month after this one on, with their subscription."
    form = ParamsForm

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        ends = Change("What is paid already", note="The present month's seats and outcomes stay until it ends.")
        return [*super().preview(account, params, now=now), ends]

    def _base_seats(self, params: dict[str, Any]) -> int:
        return 0


def _plan(account: Account) -> SeatPlan:
    plan = SeatPlan.objects.filter(organization_id=account.organization_id).select_related("organization").first()
    if plan is None:
        raise Refused("This customer has no seats.")
    return plan
