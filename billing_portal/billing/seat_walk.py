"""Seats at Stripe: the subscription made, changes sent with one key each, and each month begun with what Stripe has."""

from datetime import datetime
from functools import partial
from typing import Any

import structlog
from django.db import transaction

from accounts.models import Organization
from billing_portal.billing import cycles, gateway, intents, locks, minor_units, seats
from billing_portal.billing.models import Customer, SeatMonth, SeatMove, SeatPlan
from billing_portal.ledger import accounts
from usage import periods

log = structlog.get_logger(__name__)

State = SeatMove.State
_WAITING = "Stripe cannot be reached at the moment. It is tried again every minute, with the same key."


class PriceUnfit(Exception):
    """The price at Stripe is not one for seats; the message says why."""


def price_of(stripe_price_id: str, currency: str) -> int:
    """Return what a seat costs a month at Stripe, in micros. Raises PriceUnfit, and what the gateway raises."""
    try:
        price = gateway.retrieve("prices", stripe_price_id)
    except gateway.NotFound:
        raise PriceUnfit(f"Stripe has no price {stripe_price_id}.") from None
    recurring = price.get("recurring") or {}
    if not price["active"] or recurring.get("usage_type") != "licensed" or recurring.get("interval_count") != 1:
        raise PriceUnfit("The price must be active, licensed and monthly.")
    if recurring.get("interval") != "month" or price["currency"].upper() != currency:
        raise PriceUnfit(f"The price must be monthly and in {currency}; it is {price['currency'].upper()}.")
    micros = minor_units.price_micros(price["unit_amount_decimal"] or "0", currency)
    if micros <= 0:
        raise PriceUnfit("The price must be above zero, and the same for every seat.")
    return micros


def attach(organization: Organization, *, stripe_price_id: str, quantity: int, now: datetime) -> SeatPlan:
    """Subscribe an organization to so many seats, billed in advance from the next period on; once an organization.

    A subscription of their own: the one of the meters is finalized by us, in arrears. Seats that were detached are
    attached again with another one. Raises PriceUnfit, SeatsRefused, and what intents.perform raises.
    """
    known = SeatPlan.objects.filter(organization=organization).first()
    if known is not None and known.detached_at is None:
        return known
    after = known.stripe_subscription_id if known else ""
    customer = Customer.objects.filter(organization=organization, deleted_at=None).first()
    if customer is None or not customer.stripe_subscription_id:
        raise seats.SeatsRefused("The organization is not subscribed at Stripe yet; that is made within a minute.")
    seat_micros = price_of(stripe_price_id, organization.currency)
    month = seats.next_month(organization, now)
    unit_micros = seats.list_price(organization, month)
    unit_price_id = _unit_price(organization.currency, unit_micros, now=now)
    reference = f"seats:{organization.public_id}" + (f":{after}" if after else "")
    subscription_id = intents.perform(
        organization=organization,
        verb="subscriptions.create",
        reference=reference,
        params=intents.recorded_params(reference)
        or _subscription(organization, customer, stripe_price_id, unit_price_id, quantity, now, after=after),
        call=partial(gateway.create, "subscriptions"),
        look_up=partial(_find_subscription, organization, customer, after=after),
        again=True,
        now=now,
    )
    subscription = gateway.retrieve("subscriptions", subscription_id)
    items = {item["price"]["id"]: item for item in subscription["items"]["data"]}
    plan, _ = SeatPlan.objects.update_or_create(
        organization=organization,
        defaults={
            "stripe_price_id": stripe_price_id,
            "stripe_subscription_id": subscription_id,
            "stripe_seats_item_id": items[stripe_price_id]["id"],
            "stripe_units_item_id": next(item["id"] for name, item in items.items() if name != stripe_price_id),
            "seat_micros": seat_micros,
            "currency": organization.currency,
            "base_seats": items[stripe_price_id]["quantity"],
            "seats": items[stripe_price_id]["quantity"],
            "units": 0,
            "unit_micros": unit_micros,
            "attached_at": now,
            "detached_at": None,
        },
    )
    log.info("seats attached", organization_id=organization.pk, seats=plan.seats)
    return plan


def advance(move: SeatMove, *, now: datetime) -> SeatMove:
    """Take a move as far as it can go: send it once, with one key, and take over what Stripe then has.

    A lost answer leaves it sent; repeating it is safe (F14, F17). One process at a time an organization.
    """
    plan = SeatPlan.objects.select_related("organization").get(pk=move.plan_id)
    with locks.attempt(f"seats:{plan.organization_id}") as held:
        if held and _is_ready(plan, now=now) and _claim(move):
            try:
                _send(plan, move, now=now)
            except (gateway.Unavailable, gateway.RateLimited, intents.OutcomeUnknown):
                SeatMove.objects.filter(pk=move.pk, state=State.SENDING).update(reason=_WAITING)
            except gateway.Refused as error:
                _refuse(move, error, now=now)
    move.refresh_from_db()
    return move


def advance_all(*, now: datetime, limit: int = 200) -> int:
    """Begin the months that are due and advance the open moves; return how many moves ended. A failure is logged."""
    attached = SeatPlan.objects.filter(detached_at=None).select_related("organization")
    for plan in attached.order_by("id").iterator(chunk_size=500):
        _safely(_begin_locked, plan, now)
    open_ = list(SeatMove.objects.filter(state__in=SeatMove.OPEN).order_by("id")[:limit])
    for move in open_:
        _safely(advance, move, now)
    return SeatMove.objects.filter(pk__in=[move.pk for move in open_]).exclude(state__in=SeatMove.OPEN).count()


def _safely(step: Any, subject: SeatPlan | SeatMove, now: datetime) -> None:
    try:
        step(subject, now=now)
    except Exception:
        log.exception("seats cannot advance", organization_id=subject.organization_id)


def _begin_locked(plan: SeatPlan, *, now: datetime) -> None:
    if not _lacks_month(plan, now):
        return
    with locks.attempt(f"seats:{plan.organization_id}") as held:
        if held:
            _begin_month(plan, now=now)


def _is_ready(plan: SeatPlan, *, now: datetime) -> bool:
    """Say whether a change may be sent: this month has begun with what Stripe had, and Stripe bills it already."""
    if seats.is_closing(plan.organization, now):
        return False
    _begin_month(plan, now=now)
    return not _lacks_month(plan, now)


def _begin_month(plan: SeatPlan, *, now: datetime) -> None:
    """Begin the present month, if it has not; only what Stripe says now is what it bills."""
    if _lacks_month(plan, now):
        try:
            subscription = gateway.retrieve("subscriptions", plan.stripe_subscription_id)
        except (gateway.Unavailable, gateway.RateLimited):
            return
        seats.begin_month(plan, subscription, periods.month_of(now, plan.organization.zone), now=now)


def _lacks_month(plan: SeatPlan, now: datetime) -> bool:
    """Say whether the present month is billed as seats and has not begun here. The first is the one after attaching."""
    month = periods.month_of(now, plan.organization.zone)
    if cycles.bounds(month)[0] <= plan.attached_at:
        return False
    return not SeatMonth.objects.filter(organization_id=plan.organization_id, month=month).exists()


def _claim(move: SeatMove) -> bool:
    """Commit that the move is being sent, from when on it cannot be canceled; say whether it is open."""
    with transaction.atomic():
        accounts.lock(move.organization_id, even_frozen=True)
        SeatMove.objects.filter(pk=move.pk, state=State.ASKED).update(state=State.SENDING)
        return SeatMove.objects.filter(pk=move.pk, state=State.SENDING).exists()


def _send(plan: SeatPlan, move: SeatMove, *, now: datetime) -> None:
    unit_price_id = _unit_price(plan.currency, move.unit_micros, now=now)
    intents.perform(
        organization=plan.organization,
        verb="subscriptions.update",
        reference=f"seat-move:{move.public_id}",
        params={
            "items": [
                {"id": plan.stripe_seats_item_id, "quantity": move.seats},
                {"id": plan.stripe_units_item_id, "price": unit_price_id, "quantity": move.units},
            ],
            "proration_behavior": "none",
            "metadata": {"seat_move": str(move.public_id)},
            # With nothing on it the subscription ends with the period that is paid, so that no empty invoices follow.
            **({"cancel_at_period_end": True} if move.detaches else {}),
        },
        call=lambda params, key: gateway.update("subscriptions", plan.stripe_subscription_id, params, key),
        look_up=partial(_find_move, plan, move),
        now=now,
    )
    seats.receive(gateway.retrieve("subscriptions", plan.stripe_subscription_id), now=now)


def _find_move(plan: SeatPlan, move: SeatMove) -> gateway.Object | None:
    """Return the subscription if the change had its effect: the newest move's id stands on it."""
    subscription = gateway.retrieve("subscriptions", plan.stripe_subscription_id)
    is_there = (subscription.get("metadata") or {}).get("seat_move") == str(move.public_id)
    return subscription if is_there else None


def _refuse(move: SeatMove, error: gateway.Refused, *, now: datetime) -> None:
    with transaction.atomic():
        accounts.lock(move.organization_id, even_frozen=True)
        found = SeatMove.objects.get(pk=move.pk)
        if found.state == State.SENDING:
            seats.end(found, State.REFUSED, now=now, reason=f"Stripe refused: {error}")


def _subscription(
    organization: Organization,
    customer: Customer,
    price_id: str,
    unit_price_id: str,
    quantity: int,
    now: datetime,
    *,
    after: str,
) -> dict[str, Any]:
    _, anchor = cycles.bounds(cycles.month_at(now))
    return {
        "customer": customer.stripe_customer_id,
        "items": [{"price": price_id, "quantity": quantity}, {"price": unit_price_id, "quantity": 0}],
        "currency": organization.currency.lower(),
        # Free until the period that the meters' subscription has: from then on both are billed on the same day.
        "trial_end": int(anchor.timestamp()),
        "proration_behavior": "none",
        "collection_method": "charge_automatically",
        "off_session": True,
        "metadata": _mark_of(organization, after),
    }


def _mark_of(organization: Organization, after: str) -> dict[str, str]:
    """Return what tells an organization's subscription of seats from others, and from the one before it."""
    return {"seats_of": str(organization.public_id), **({"after": after} if after else {})}


def _find_subscription(organization: Organization, customer: Customer, *, after: str) -> gateway.Object | None:
    mine = (str(organization.public_id), after)
    made = gateway.list_all("subscriptions", {"customer": customer.stripe_customer_id, "status": "all"})
    marks = ((each, each.get("metadata") or {}) for each in made)
    return next((each for each, mark in marks if (mark.get("seats_of"), mark.get("after", "")) == mine), None)


def _unit_price(currency: str, unit_micros: int, *, now: datetime) -> str:
    """Return Stripe's licensed price of one outcome a month, made once a currency and amount."""
    product_id = _create("products", "product:allowance", {"name": "Monthly outcomes", "metadata": _MARK}, now=now)
    params = {
        "product": product_id,
        "currency": currency.lower(),
        "unit_amount_decimal": minor_units.amount_decimal(unit_micros, currency),
        "recurring": {"interval": "month", "usage_type": "licensed"},
        "metadata": {**_MARK, "unit_micros": str(unit_micros)},
    }
    return _create("prices", f"price:allowance:{currency}:{unit_micros}", params, now=now)


_MARK = {"allowance": "outcomes"}


def _create(kind: gateway.Kind, reference: str, params: dict[str, Any], *, now: datetime) -> str:
    return intents.perform(
        organization=None,
        verb=f"create {kind}",
        reference=reference,
        params=params,
        call=partial(gateway.create, kind),
        look_up=partial(_find, kind, params),
        again=True,
        now=now,
    )


def _find(kind: gateway.Kind, params: dict[str, Any]) -> gateway.Object | None:
    made = gateway.list_all(kind, {"active": True})
    same = (each for each in made if (each.get("metadata") or {}) == params["metadata"])
    return next((each for each in same if each.get("currency", "") == params.get("currency", "")), None)
