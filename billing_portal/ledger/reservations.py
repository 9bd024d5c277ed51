"""Reservations: an upper bound is held for each call that is about to start, so that many at once overshoot no cap.

Every instant here is the database's, never the domain's clock: a hold must not end early because a clock ran ahead.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from billing_portal.ledger import accounts, authorization, refusals, retries, settlement, standing
from billing_portal.ledger.authorization import Authorization
from billing_portal.ledger.journal import ReferenceReused
from billing_portal.ledger.models import Direction, Reservation
from usage import calls

log = structlog.get_logger(__name__)

State = Reservation.State
MOST_SECONDS = 24 * 60 * 60
KEPT_FOR = timedelta(days=35)
_AT_ONCE = 1_000
_FORGOTTEN_AT_ONCE = 50_000


class SpendRefused(Exception):
    """Less may be spent than was to be reserved; nothing is held."""

    def __init__(self, refused: Authorization, micros: int) -> None:
        super().__init__(f"{micros} micros were asked for, {refused.available_micros} are available: {refused.reason}.")
        self.refused = refused
        self.micros = micros


class ReservationUnknown(LookupError):
    """The organization has no reservation of this reference."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"There is no reservation {reference!r}.")
        self.reference = reference


class ReservationEnded(Exception):
    """The reservation has ended in another way than was asked for; it stays as it is."""

    def __init__(self, reservation: Reservation) -> None:
        super().__init__(f"The reservation {reservation} is {reservation.state} already.")
        self.reservation = reservation


class ReservationExpired(ReservationEnded):
    """The reservation's time was over before it was used or released."""


class AmountNotPositive(ValueError):
    """A reservation must hold at least one micro."""


class CurrencyMismatch(ValueError):
    """The organization pays in another currency."""

    def __init__(self, *, given: str, currency: str) -> None:
        super().__init__(f"The organization pays in {currency}, not in {given}.")
        self.given = given
        self.currency = currency


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be reserved: micros of a currency, for so many seconds, perhaps for a call that is known already."""

    reference: str
    micros: int
    lasts_seconds: int
    call_id: str = ""
    direction: Direction | None = None
    currency: str = ""

    def content(self) -> tuple[int, int, str, str]:
        """Return what must be the same when the reference comes again."""
        return self.micros, self.lasts_seconds, self.call_id, str(self.direction or "")


@retries.whole
def reserve(organization_id: int, wish: Wish, *, now: datetime) -> tuple[Reservation, bool]:
    """Hold the amount, once per reference; return the reservation, and whether it is new.

    Raises SpendRefused, which is kept as a refused call; ReservationExpired for a reference whose time is over;
    ReferenceReused for one with other content; AmountNotPositive, CurrencyMismatch, AccountMissing.
    """
    if wish.micros <= 0:
        raise AmountNotPositive(wish.micros)
    with transaction.atomic():
        account = accounts.lock(organization_id, even_frozen=True)
        if wish.currency and wish.currency != account.currency:
            raise CurrencyMismatch(given=wish.currency, currency=account.currency)
        known = Reservation.objects.filter(organization_id=organization_id, reference=wish.reference).first()
        if known is None:
            found = standing.of(organization_id, now=now)
            decided = authorization.decide(found, direction=wish.direction, micros=wish.micros)
            if decided.allowed:
                return _hold(organization_id, account.currency, wish), True
            name = wish.call_id or wish.reference
            refusals.record(decided, call_id=name, direction=wish.direction, micros=wish.micros, now=now)
        else:
            _assert_same(known, wish)
            known = _expire_if_due(known)
    # Outside of the transaction, so that the refusal and the expiry are kept.
    if known is None:
        raise SpendRefused(decided, wish.micros)
    if known.state == State.EXPIRED:
        raise ReservationExpired(known)
    return known, False


def find(organization_id: int, reference: str) -> Reservation:
    """Return a reservation as it is now; one whose time is over is expired. Raises ReservationUnknown."""
    found = Reservation.objects.filter(organization_id=organization_id, reference=reference).first()
    if found is None:
        raise ReservationUnknown(reference)
    return _expire_if_due(found)


def release(organization_id: int, reference: str) -> Reservation:
    """Let go of what a reservation holds: its call did not take place. Releasing again changes nothing.

    Raises ReservationUnknown, ReservationExpired, or ReservationEnded for one that was used.
    """
    return _end(organization_id, reference, State.RELEASED)


def use(organization_id: int, reference: str) -> Reservation:
    """End a reservation because its call is recorded. Using it again changes nothing.

    Raises ReservationUnknown, ReservationExpired, or ReservationEnded for one that was released.
    """
    return _end(organization_id, reference, State.USED)


def use_recorded(organization_id: int, *, now: datetime) -> int:
    """Use the open reservations whose calls are recorded, and return how many those were.

    First those calls are settled, so that at every moment a call counts as held or as spent, and never as neither.
    """
    recorded = [
        reservation.pk
        for reservation in _naming_a_call(organization_id)[:_AT_ONCE]
        if calls.find(organization_id, reservation.call_id)
    ]
    if not recorded:
        return 0
    settlement.settle_all(organization_id, now=now)
    open_ones = Reservation.objects.filter(pk__in=recorded, organization_id=organization_id, state=State.OPEN)
    used = open_ones.update(state=State.USED, ended_at=Now())
    log.info("reservations used", organization_id=organization_id, reservations=used)
    return used


def expire() -> int:
    """End the reservations whose time is over, of all organizations; return how many. What is locked waits."""
    due = Reservation.objects.filter(state=State.OPEN, expires_at__lte=Now()).order_by("expires_at", "id")
    with transaction.atomic():
        keys = list(due.select_for_update(skip_locked=True).values_list("pk", flat=True)[:_AT_ONCE])
        expired = Reservation.objects.filter(pk__in=keys).update(state=State.EXPIRED, ended_at=F("expires_at"))
    if expired:
        log.info("reservations expired", reservations=expired)
    return expired


def forget() -> int:
    """Delete reservations that ended KEPT_FOR ago, so many at a time; return how many. Their references become free."""
    ended = Reservation.objects.exclude(state=State.OPEN).filter(expires_at__lt=Now() - KEPT_FOR).order_by("id")
    return Reservation.objects.filter(pk__in=list(ended.values_list("pk", flat=True)[:_FORGOTTEN_AT_ONCE])).delete()[0]


def organizations_awaiting_calls() -> list[int]:
    """Return the organizations with open reservations that name a call, in order."""
    naming = Reservation.objects.filter(state=State.OPEN).exclude(call_id="")
    return list(naming.order_by("organization_id").values_list("organization_id", flat=True).distinct())


def held(organization_id: int, *, limit: int) -> tuple[list[tuple[Reservation, timedelta]], int]:
    """Return what holds money now, each with the time it has left, the one that expires first first; and how many."""
    open_ones = Reservation.objects.filter(organization_id=organization_id, state=State.OPEN, expires_at__gt=Now())
    rows = list(open_ones.annotate(time_left=F("expires_at") - Now()).order_by("expires_at", "id")[:limit])
    return [(each, each.time_left) for each in rows], open_ones.count()


def _naming_a_call(organization_id: int) -> QuerySet[Reservation]:
    naming = Reservation.objects.filter(organization_id=organization_id, state=State.OPEN).exclude(call_id="")
    return naming.order_by("expires_at", "id")


def _hold(organization_id: int, currency: str, wish: Wish) -> Reservation:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO ledger_reservation (organization_id, reference, call_id, direction, amount_micros, currency,
                                            lasts_seconds, state, created_at, expires_at)
            VALUES (%s, %s, %s, %s, %s, %s, %s, 'open', statement_timestamp(),
                    statement_timestamp() + make_interval(secs => %s))
            RETURNING id, created_at, expires_at""",
            [
                organization_id,
                wish.reference,
                wish.call_id,
                str(wish.direction or ""),
                wish.micros,
                currency,
                wish.lasts_seconds,
                wish.lasts_seconds,
            ],
        )
        pk, created_at, expires_at = cursor.fetchone()
    log.info("money reserved", organization_id=organization_id, reservation_id=pk, micros=wish.micros)
    return Reservation(
        pk=pk,
        organization_id=organization_id,
        reference=wish.reference,
        call_id=wish.call_id,
        direction=str(wish.direction or ""),
        amount_micros=wish.micros,
        currency=currency,
        lasts_seconds=wish.lasts_seconds,
        created_at=created_at,
        expires_at=expires_at,
    )


@retries.whole
def _end(organization_id: int, reference: str, state: Reservation.State) -> Reservation:
    with transaction.atomic():
        accounts.lock(organization_id, even_frozen=True)
        found = Reservation.objects.filter(organization_id=organization_id, reference=reference).first()
        if found is None:
            raise ReservationUnknown(reference)
        found = _expire_if_due(found)
        if found.state == State.OPEN:
            found = _move(found, state)
            log.info("reservation ended", organization_id=organization_id, reservation_id=found.pk, state=str(state))
    if found.state == State.EXPIRED:
        raise ReservationExpired(found)
    if found.state != state:
        raise ReservationEnded(found)
    return found


def _expire_if_due(reservation: Reservation) -> Reservation:
    """End a reservation whose time is over and that no sweep has met yet."""
    due = Reservation.objects.filter(pk=reservation.pk, state=State.OPEN, expires_at__lte=Now())
    if due.update(state=State.EXPIRED, ended_at=F("expires_at")):
        reservation.refresh_from_db()
    return reservation


def _move(reservation: Reservation, state: Reservation.State) -> Reservation:
    Reservation.objects.filter(pk=reservation.pk, state=State.OPEN).update(state=state, ended_at=Now())
    reservation.refresh_from_db()
    return reservation


def _assert_same(known: Reservation, wish: Wish) -> None:
    content = (known.amount_micros, known.lasts_seconds, known.call_id, known.direction)
    if content != wish.content():
        raise ReferenceReused(wish.reference, content, wish.content())
