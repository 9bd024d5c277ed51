"""Spend moved from seats to outcomes and back: what it comes to, the wish, and what Stripe has confirmed.

Both sides are one change at Stripe: so many seats, so many outcomes. Neither counts before Stripe has confirmed it, and
a month's outcomes are those that Stripe had at the month's start, the same that it bills: never both, never neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction

from accounts.models import Organization, User
from billing_portal.billing import cycles, minor_units
from billing_portal.billing.models import Invoice, SeatMonth, SeatMove, SeatPlan
from billing_portal.ledger import accounts, buckets
from billing_portal.ledger.buckets import Terms
from billing_portal.ledger.models import Bucket
from usage import periods
from usage.models import OutcomeType
from usage.outcomes import rules

log = structlog.get_logger(__name__)

State = SeatMove.State


class SeatsRefused(Exception):
    """The move cannot be asked for; the message says why."""


class MoveOpen(SeatsRefused):
    """Another move waits for Stripe."""

    def __init__(self, move: SeatMove) -> None:
        super().__init__("Another change still waits for Stripe. Cancel it, or wait until it is confirmed.")
        self.move = move


class FormReused(SeatsRefused):
    """The form's key names another move."""

    def __init__(self, move: SeatMove) -> None:
        super().__init__("This form was sent before with another number. Open it again.")
        self.move = move


class TooLate(Exception):
    """The move is on its way to Stripe, or has ended: it cannot be canceled."""

    def __init__(self, move: SeatMove) -> None:
        super().__init__(f"This can no longer be canceled: it is {move.get_state_display().lower()}.")
        self.move = move


@dataclass(frozen=True, slots=True)
class Side:
    """What is billed a month, before tax: seats and outcomes, in micros."""

    seats: int
    seat_micros: int
    units: int
    unit_micros: int

    @property
    def seats_micros(self) -> int:
        return self.seats * self.seat_micros

    @property
    def units_micros(self) -> int:
        return self.units * self.unit_micros

    @property
    def total_micros(self) -> int:
        return self.seats_micros + self.units_micros


@dataclass(frozen=True, slots=True)
class Preview:
    """Both sides of a move, and the month from which it would count."""

    before: Side
    after: Side
    month: date

    @property
    def change_micros(self) -> int:
        return self.after.total_micros - self.before.total_micros


def allowance(seats_moved: int, seat_micros: int, unit_micros: int) -> int:
    """Return how many outcomes the spend of so many seats buys at list price; what is left over is not billed. Pure."""
    return seats_moved * seat_micros // unit_micros


def preview(plan: SeatPlan, *, seats: int, now: datetime) -> Preview:
    """Return what keeping so many seats would come to; nothing is changed. Raises SeatsRefused."""
    if not 0 <= seats <= plan.base_seats:
        raise SeatsRefused(f"Keep between 0 and {plan.base_seats} seats: so many were sold.")
    month = next_month(plan.organization, now)
    moved, unit_micros = plan.base_seats - seats, list_price(plan.organization, month)
    before = Side(plan.seats, plan.seat_micros, plan.units, plan.unit_micros)
    after = Side(seats, plan.seat_micros, allowance(moved, plan.seat_micros, unit_micros), unit_micros)
    if before.seats == after.seats:
        raise SeatsRefused(f"There are {seats} seats already. Choose another number.")
    return Preview(before, after, month)


def preview_sold(plan: SeatPlan, *, base_seats: int, now: datetime) -> Preview:
    """Return what selling so many seats would come to, none for no more of them; nothing is changed.

    The spend that was moved to outcomes stays moved, as the customer chose it. Raises SeatsRefused.
    """
    if plan.detached_at is not None:
        raise SeatsRefused("The seats were detached already.")
    moved = plan.base_seats - plan.seats
    if base_seats == plan.base_seats:
        raise SeatsRefused(f"{base_seats} seats are sold already. Choose another number.")
    if 0 < base_seats < moved:
        raise SeatsRefused(f"The spend of {moved} seats is moved to outcomes: sell at least so many, or detach them.")
    before = Side(plan.seats, plan.seat_micros, plan.units, plan.unit_micros)
    units = plan.units if base_seats else 0
    after = Side(max(0, base_seats - moved), plan.seat_micros, units, plan.unit_micros)
    return Preview(before, after, next_month(plan.organization, now))


def ask(plan: SeatPlan, *, seats: int, public_id: UUID, by: User, now: datetime) -> SeatMove:
    """Ask for so many seats, and outcomes for the rest, from the next period on; once per `public_id`.

    Nothing changes until Stripe confirms it (`seat_walk.advance`). Raises SeatsRefused, MoveOpen, FormReused.
    """
    with transaction.atomic():
        accounts.lock(plan.organization_id)
        known, plan = _known_or_free(plan, public_id)
        if known is not None:
            if known.seats != seats or known.is_of_staff:
                raise FormReused(known)
            return known
        return _record(plan, preview(plan, seats=seats, now=now), public_id=public_id, by=by, now=now)


def sell(plan: SeatPlan, *, base_seats: int, public_id: UUID, by: User, now: datetime) -> SeatMove:
    """Have so many seats sold from the next period on, or with none the plan detached; once per `public_id`.

    It takes the way of every move: one call, one key, and it counts when Stripe has confirmed it. Raises SeatsRefused,
    MoveOpen, FormReused.
    """
    with transaction.atomic():
        accounts.lock(plan.organization_id)
        known, plan = _known_or_free(plan, public_id)
        if known is not None:
            if known.base_seats != base_seats:
                raise FormReused(known)
            return known
        sides = preview_sold(plan, base_seats=base_seats, now=now)
        sold = {"before_base_seats": plan.base_seats, "base_seats": base_seats}
        return _record(plan, sides, public_id=public_id, by=by, now=now, **sold)


def _known_or_free(plan: SeatPlan, public_id: UUID) -> tuple[SeatMove | None, SeatPlan]:
    """Return the move of this key, if any, and the plan as it is, under the account's lock. Raises MoveOpen."""
    moves = SeatMove.objects.filter(organization_id=plan.organization_id)
    known = moves.filter(public_id=public_id).first()
    if known is None and (open_ := moves.filter(state__in=SeatMove.OPEN).first()) is not None:
        raise MoveOpen(open_)
    return known, SeatPlan.objects.select_related("organization").get(pk=plan.pk)


def _record(plan: SeatPlan, sides: Preview, *, public_id: UUID, by: User, now: datetime, **sold: int) -> SeatMove:
    move = SeatMove.objects.create(
        organization_id=plan.organization_id,
        plan=plan,
        public_id=public_id,
        before_seats=plan.seats,
        before_units=plan.units,
        before_unit_micros=plan.unit_micros,
        seats=sides.after.seats,
        units=sides.after.units,
        unit_micros=sides.after.unit_micros,
        asked_by=by,
        asked_at=now,
        **sold,
    )
    log.info(
        "seat move asked", organization_id=plan.organization_id, move_id=move.pk, seats=move.seats, units=move.units
    )
    return move


def cancel(move: SeatMove, *, now: datetime) -> SeatMove:
    """Take back a customer's move that was not sent to Stripe yet; again it changes nothing. Raises TooLate."""
    with transaction.atomic():
        accounts.lock(move.organization_id, even_frozen=True)
        found = SeatMove.objects.get(pk=move.pk)
        if found.is_of_staff or found.state not in {State.ASKED, State.CANCELED}:
            raise TooLate(found)
        if found.state == State.ASKED:
            end(found, State.CANCELED, now=now)
    return found


def end(move: SeatMove, state: State, *, now: datetime, reason: str = "", month: date | None = None) -> None:
    """Bring a move to its end. The caller holds the account's lock."""
    move.state, move.reason, move.month, move.ended_at = state, reason[:300], month, now
    move.save(update_fields=["state", "reason", "month", "ended_at"])
    log.info("seat move ended", organization_id=move.organization_id, move_id=move.pk, state=str(state))


def receive(subscription: Mapping[str, Any], *, now: datetime) -> None:
    """Take over how many seats and outcomes Stripe has, in any order and any number of times (a webhook's object).

    What was sent and is there is confirmed, and counts from the next period on; so does how many seats are sold.
    """
    plan = SeatPlan.objects.filter(stripe_subscription_id=subscription["id"]).select_related("organization").first()
    if plan is None:
        return
    with transaction.atomic():
        accounts.lock(plan.organization_id, even_frozen=True)
        plan.refresh_from_db(fields=["seats", "units", "unit_micros", "base_seats", "detached_at"])
        plan.seats, plan.units, plan.unit_micros = quantities(plan, subscription)
        move = SeatMove.objects.filter(organization_id=plan.organization_id, state=State.SENDING).first()
        arrived = move if move is not None and _is_at(move, plan, subscription) else None
        if arrived is not None and arrived.base_seats is not None:
            plan.base_seats, plan.detached_at = arrived.base_seats, now if arrived.detaches else None
        plan.save(update_fields=["seats", "units", "unit_micros", "base_seats", "detached_at"])
        if arrived is not None:
            end(arrived, State.CONFIRMED, now=now, month=_counts_from(plan, now))


def _is_at(move: SeatMove, plan: SeatPlan, subscription: Mapping[str, Any]) -> bool:
    """Say whether Stripe has what a move asks for."""
    has_both = (move.seats, move.units) == (plan.seats, plan.units)
    return has_both and (not move.detaches or is_leaving(subscription))


def quantities(plan: SeatPlan, subscription: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the seats, the outcomes and the price of one in micros, as Stripe has them and will bill them."""
    if is_leaving(subscription):
        return 0, 0, plan.unit_micros
    items = {item["id"]: item for item in subscription["items"]["data"]}
    seats, units = items.get(plan.stripe_seats_item_id), items.get(plan.stripe_units_item_id)
    price = units["price"] if units else {}
    unit_micros = minor_units.price_micros(price["unit_amount_decimal"], plan.currency) if price else plan.unit_micros
    return (seats or {}).get("quantity") or 0, (units or {}).get("quantity") or 0, unit_micros


def is_leaving(subscription: Mapping[str, Any]) -> bool:
    """Say whether Stripe bills no further period of a subscription."""
    return bool(subscription.get("cancel_at_period_end")) or subscription.get("status") == "canceled"


def begin_month(plan: SeatPlan, subscription: Mapping[str, Any], month: date, *, now: datetime) -> SeatMonth:
    """Put the month's outcomes into the books, as many as Stripe has and bills: once a month, whatever happens."""
    seats, units, unit_micros = quantities(plan, subscription)
    with transaction.atomic():
        accounts.lock(plan.organization_id, even_frozen=True)
        known = SeatMonth.objects.filter(organization_id=plan.organization_id, month=month).first()
        if known is not None:
            return known
        begun = SeatMonth.objects.create(
            organization_id=plan.organization_id,
            month=month,
            seats=seats,
            seat_micros=plan.seat_micros,
            units=units,
            unit_micros=unit_micros,
            bucket=_bucket(plan, month, units, unit_micros, now=now) if units else None,
            begun_at=now,
        )
    log.info("seat month begun", organization_id=plan.organization_id, month=f"{month}", seats=seats, units=units)
    return begun


def receive_invoice(invoice: Invoice, data: Mapping[str, Any]) -> None:
    """Note which invoice bills a month of seats, so that it can be held against it."""
    subscription_id = subscription_of(data)
    plan = SeatPlan.objects.filter(organization_id=invoice.organization_id, stripe_subscription_id=subscription_id)
    if subscription_id and plan.exists():
        month = cycles.month_at(invoice.drafted_at)
        months = SeatMonth.objects.filter(organization_id=invoice.organization_id, month=month, invoice=None)
        months.update(invoice=invoice)


def due_minor(invoice: Invoice) -> list[int]:
    """Return what an invoice should bill for a month of seats, line by line, in minor units; none for another one."""
    month = SeatMonth.objects.filter(organization_id=invoice.organization_id, invoice=invoice).first()
    if month is None:
        return []
    sides = (month.seats * month.seat_micros, month.units * month.unit_micros)
    return [minor_units.from_micros(micros, invoice.currency) for micros in sides]


def subscription_of(data: Mapping[str, Any]) -> str:
    """Return the id of the subscription that a Stripe invoice is of; empty for none."""
    details = (data.get("parent") or {}).get("subscription_details") or {}
    return str(details.get("subscription") or "")


def list_price(organization: Organization, month: date) -> int:
    """Return what one resolution costs when a month begins. Raises SeatsRefused without a price."""
    version = rules.current([organization.pk])[organization.pk].at(periods.starts_at(month, organization.zone))
    price = version.prices.get(OutcomeType.RESOLUTION) if version else None
    if not price:
        raise SeatsRefused("Outcomes have no price in this currency yet, so no spend can be moved to them.")
    return price


def next_month(organization: Organization, now: datetime) -> date:
    """Return the first month that a change of now can count for."""
    return periods.next_month(periods.month_of(now, organization.zone))


def is_closing(organization: Organization, now: datetime) -> bool:
    """Say whether the month has begun but Stripe's period has not: what it has must stay as it is, it bills it soon."""
    return cycles.month_at(now) < periods.month_of(now, organization.zone)


def _counts_from(plan: SeatPlan, now: datetime) -> date:
    """Return the month from which what Stripe has now counts: the present one, if it began or begins with that."""
    month = periods.month_of(now, plan.organization.zone)
    begun = SeatMonth.objects.filter(organization_id=plan.organization_id, month=month).first()
    if begun is None:
        return month if is_closing(plan.organization, now) else periods.next_month(month)
    is_same = (begun.seats, begun.units) == (plan.seats, plan.units)
    return month if is_same else periods.next_month(month)


def _bucket(plan: SeatPlan, month: date, units: int, unit_micros: int, *, now: datetime) -> Bucket:
    """Return the bucket of a month: it pays for every type of outcome that costs no more than a resolution."""
    starts_at, ends_at = periods.bounds(month, plan.organization.zone)
    version = rules.current([plan.organization_id])[plan.organization_id].at(starts_at)
    types = [str(outcome) for outcome, price in (version.prices if version else {}).items() if price <= unit_micros]
    terms = Terms(
        outcomes=tuple(sorted({OutcomeType.RESOLUTION.value, *types})),
        size=units,
        price_micros=units * unit_micros,
        starts_at=starts_at,
        expires_at=ends_at,
    )
    return buckets.add(plan.organization_id, terms, reference=f"seats:{month}", now=now)
