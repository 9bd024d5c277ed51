"""Automatic top-ups: when credit runs low, buy more by the standing order, before it reaches zero.

A top-up is a purchase like any other, which nobody has to ask for. There is at most one open an organization (F36).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Sum

from accounts.models import Organization, User
from billing_portal.billing import cards, purchase_letters, purchases, top_up_orders
from billing_portal.billing.models import Purchase, TopUp
from billing_portal.ledger import accounts, balances
from usage import periods, rollups

log = structlog.get_logger(__name__)

_HOUR, _DAY, _SHORTEST_PACE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=10)


class ThresholdRefused(ValueError):
    """A threshold below zero, or above what may be bought at once."""

    def __init__(self, terms: purchases.Terms) -> None:
        super().__init__("The threshold is out of range.")
        self.terms = terms


class CeilingTooLow(ValueError):
    """The monthly ceiling does not even hold one top-up."""


@dataclass(frozen=True, slots=True)
class Need:
    """Why a top-up is due, or is not: micros of the organization's currency."""

    credit_micros: int
    threshold_micros: int
    expected_micros: int

    @property
    def level_micros(self) -> int:
        """Below this, credit is bought: the threshold, or what the next hour is expected to use."""
        return max(self.threshold_micros, self.expected_micros)

    @property
    def is_due(self) -> bool:
        return self.credit_micros < self.level_micros


def check_terms(*, threshold_micros: int, amount_micros: int, ceiling_micros: int, currency: str) -> None:
    """Raise what is wrong with a standing order: purchases.AmountRefused, CeilingTooLow, ThresholdRefused."""
    purchases.check_amount(amount_micros, currency)
    terms = purchases.terms(currency)
    if not 0 <= threshold_micros <= terms.maximum_micros:
        raise ThresholdRefused(terms)
    if ceiling_micros < amount_micros:
        raise CeilingTooLow(ceiling_micros)


def switch_on(
    *,
    organization: Organization,
    user: User,
    threshold_micros: int,
    amount_micros: int,
    ceiling_micros: int,
    now: datetime,
) -> TopUp:
    """Put a standing order in force, as `user` accepted it.

    Raises what `check_terms` raises, and purchases.CardNeeded where no card could be charged.
    """
    terms = {"threshold_micros": threshold_micros, "amount_micros": amount_micros, "ceiling_micros": ceiling_micros}
    check_terms(**terms, currency=organization.currency)
    if not cards.has_usable_card(organization):
        raise purchases.CardNeeded
    return top_up_orders.accept(organization=organization, user=user, now=now, **terms)


def switch_off(*, organization: Organization, user: User, now: datetime) -> Purchase | None:
    """End the standing order; return the top-up that is given up with it, if one was not paid yet."""
    order = top_up_orders.in_force(organization)
    if order is not None:
        top_up_orders.end(order, user=user, now=now)
    under_way = purchases.open_purchase(organization, Purchase.Origin.TOP_UP)
    if under_way is not None:
        purchases.give_up(under_way, now=now)
    return under_way


def check(organization_id: int, *, now: datetime) -> Purchase | None:
    """Ask for a top-up if one is due; return the new purchase.

    None if credit lasts, nothing is ordered, one is under way already, there is no card, or the ceiling is reached,
    which is told once a month. Raises accounts.AccountFrozen.
    """
    order = TopUp.objects.filter(organization_id=organization_id, ended_at=None).first()
    if order is None or not need(order, now=now).is_due:
        return None
    with transaction.atomic():
        account = accounts.lock(organization_id)
        # Everything anew, under the lock: another process may have asked, or somebody switched it off.
        order = top_up_orders.in_force(account.organization)
        if order is None or not _may_buy(order) or not need(order, now=now).is_due:
            return None
        if is_at_ceiling(order, now=now):
            purchase_letters.tell_ceiling(order, now=now)
            return None
        return purchases.ask_for_top_up(order, now=now)


def organizations() -> list[int]:
    """Return the organizations with a standing order that may be acted on."""
    active = TopUp.objects.filter(ended_at=None, organization__status=Organization.Status.ACTIVE)
    return list(active.filter(organization__account__frozen_at=None).values_list("organization_id", flat=True))


def check_safely(organization_id: int, *, now: datetime) -> Purchase | None:
    """Do as `check`; what fails is logged and keeps no other organization from being checked (F24)."""
    try:
        return check(organization_id, now=now)
    except Exception:
        log.exception("top-up not checked", organization_id=organization_id)
        return None


def need(order: TopUp, *, now: datetime) -> Need:
    """Return how the organization's credit stands against the order's threshold and its own speed."""
    account = order.organization.account
    return Need(
        credit_micros=balances.balance(account, now=now).credit_micros,
        threshold_micros=order.threshold_micros,
        expected_micros=expected_micros(order.organization_id, now=now),
    )


def expected_micros(organization_id: int, *, now: datetime) -> int:
    """Return what the next hour may use: the most of the running hour's pace, the hour before, and other days.

    Those are yesterday and a week ago, each with the hours in which the next sixty minutes would fall.
    """
    recent = rollups.by_hour(organization_id, starts_at=now - 2 * _HOUR, ends_at=now)
    others = [
        hour
        for ago in (_DAY, 7 * _DAY)
        for hour in rollups.by_hour(organization_id, starts_at=now - ago - _HOUR, ends_at=now - ago + _HOUR)
    ]
    return max([0, *(hour.micros for hour in [*recent, *others]), *(_pace(hour, now) for hour in recent[-1:])])


def _pace(hour: rollups.Hour, now: datetime) -> int:
    """Return what an hour comes to if it goes on as it began; its first minutes alone say little."""
    gone = min(max(now - hour.hour_at, _SHORTEST_PACE), _HOUR)
    return hour.micros * _HOUR.seconds // gone.seconds


def bought_this_month(organization: Organization, *, now: datetime) -> int:
    """Return what top-ups of the current month come to, in micros before tax, those under way included."""
    starts_at, ends_at = periods.bounds(periods.month_of(now, organization.zone), organization.zone)
    counted = Purchase.objects.filter(
        organization=organization,
        origin=Purchase.Origin.TOP_UP,
        state__in=[*Purchase.OPEN, Purchase.State.PAID, Purchase.State.CREDITED],
        asked_at__gte=starts_at,
        asked_at__lt=ends_at,
    )
    return int(counted.aggregate(micros=Sum("amount_micros"))["micros"] or 0)


def is_at_ceiling(order: TopUp, *, now: datetime) -> bool:
    """Say whether one more top-up would go over the month's ceiling."""
    return bought_this_month(order.organization, now=now) + order.amount_micros > order.ceiling_micros


def _may_buy(order: TopUp) -> bool:
    """Say whether nothing is in the way: what was paid already, and is being credited, counts as credit to come."""
    organization = order.organization
    is_active = organization.status == Organization.Status.ACTIVE
    under_way = purchases.open_purchase(organization, Purchase.Origin.TOP_UP) is not None
    is_coming = Purchase.objects.filter(organization=organization, state=Purchase.State.PAID).exists()
    return is_active and not under_way and not is_coming and cards.has_usable_card(organization)
