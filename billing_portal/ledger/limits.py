"""The monthly cap: setting it, and how far it can be overshot."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import transaction

from accounts.models import User
from billing_portal.ledger import accounts, standing
from billing_portal.ledger.models import SpendLimit
from billing_portal.ledger.standing import Standing
from usage import rollups

log = structlog.get_logger(__name__)

MOST_MICROS = 10**15


class CapOutOfRange(ValueError):
    """A cap is at least nothing and at most a thousand million of the currency."""


class UsageWouldStop(Exception):
    """This month's usage is above what the cap would allow: setting it stops usage at once."""

    def __init__(self, found: Standing, cap_micros: int) -> None:
        super().__init__(f"{found.spent_micros} micros are spent, the cap would be {cap_micros}.")
        self.spent_micros = found.spent_micros
        self.cap_micros = cap_micros


@dataclass(frozen=True, slots=True)
class Overshoot:
    """How far a month can end above its cap, in micros.

    `inbound_micros` is what the setting allows to inbound calls. `running_micros` bounds what calls can cost that run
    when usage stops and for which nothing was reserved: the dearest hour of the last 30 days, as no more runs at once
    while calls are shorter than an hour. Where an amount is reserved for every call, it is nothing.
    """

    inbound_micros: int
    running_micros: int

    @property
    def micros(self) -> int:
        return self.inbound_micros + self.running_micros


def overshoot(found: Standing, *, now: datetime) -> Overshoot:
    """Return the largest possible overshoot of the cap in force; nothing without a cap that stops usage."""
    if not found.cap_stops or found.cap_micros is None:
        return Overshoot(0, 0)
    hours = rollups.by_hour(found.organization_id, starts_at=now - timedelta(days=30), ends_at=now)
    return Overshoot(
        inbound_micros=found.cap_micros * (found.inbound_percent - 100) // 100,
        running_micros=max((hour.micros for hour in hours), default=0),
    )


@dataclass(frozen=True, slots=True)
class Terms:
    """What a cap says; see `SpendLimit`."""

    cap_micros: int | None
    mode: SpendLimit.Mode = SpendLimit.Mode.STOP
    outbound_percent: int = 100
    inbound_percent: int = 100
    finishes_live_calls: bool = True


def current(organization_id: int) -> SpendLimit | None:
    """Return the limit in force; None if none was ever set."""
    return SpendLimit.objects.filter(organization_id=organization_id).order_by("-id").first()


def set(  # noqa: A001 - the ledger's own verb
    organization_id: int, terms: Terms, *, by: User | None, now: datetime, even_if_usage_stops: bool = False
) -> SpendLimit:
    """Put a cap in force from now on; the same terms again change nothing.

    Raises UsageWouldStop where it would stop usage at once, unless that is meant; CapOutOfRange, AccountMissing.
    """
    if terms.cap_micros is not None and not 0 <= terms.cap_micros <= MOST_MICROS:
        raise CapOutOfRange(terms.cap_micros)
    with transaction.atomic():
        accounts.lock(organization_id, even_frozen=True)
        known = current(organization_id)
        if known is not None and _terms_of(known) == terms:
            return known
        found = standing.of(organization_id, now=now)
        cap = terms.cap_micros
        if cap is not None and _stops(terms) and found.spent_micros >= cap and not even_if_usage_stops:
            raise UsageWouldStop(found, cap)
        limit = SpendLimit.objects.create(
            organization_id=organization_id,
            cap_micros=cap,
            mode=terms.mode,
            outbound_percent=terms.outbound_percent,
            inbound_percent=terms.inbound_percent,
            finishes_live_calls=terms.finishes_live_calls,
            set_at=now,
            set_by=by,
        )
    log.info("spend limit set", organization_id=organization_id, spend_limit_id=limit.pk, micros=cap)
    return limit


def _stops(terms: Terms) -> bool:
    return terms.mode == SpendLimit.Mode.STOP


def _terms_of(limit: SpendLimit) -> Terms:
    return Terms(
        cap_micros=limit.cap_micros,
        mode=SpendLimit.Mode(limit.mode),
        outbound_percent=limit.outbound_percent,
        inbound_percent=limit.inbound_percent,
        finishes_live_calls=limit.finishes_live_calls,
    )
