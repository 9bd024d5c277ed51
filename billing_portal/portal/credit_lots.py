"""The grants as lots: what is spent next, what runs out when, and what became of those that are gone."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from django.db.models import Max, Q, Sum

from billing_portal.ledger import credits, statements
from billing_portal.ledger.models import Account, Entry, Grant, Transaction

Kind = Transaction.Kind
_SOON_DAYS = 14
_ENDED = 20
_PACE = timedelta(days=14)
_FAR = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Lot:
    """One grant. `days_left` counts the days on which it can still be spent after today; None if it never expires."""

    grant: Grant
    is_next: bool
    days_left: int | None

    @property
    def used_micros(self) -> int:
        return self.grant.amount_micros - self.grant.remaining_micros

    @property
    def is_soon_gone(self) -> bool:
        return self.days_left is not None and self.days_left <= _SOON_DAYS


@dataclass(frozen=True, slots=True)
class EndedLot:
    """A grant of which nothing is left: how much of it was spent, expired or was taken back, and when it ended."""

    grant: Grant
    spent_micros: int
    expired_micros: int
    taken_back_micros: int
    ended_at: datetime


def spendable(account: Account, *, zone: tzinfo, now: datetime) -> list[Lot]:
    """Return what can be spent, in burn order."""
    grants = credits.spendable(account, now=now)
    return [
        Lot(grant, is_next=number == 0, days_left=credits.days_left(grant, zone=zone, now=now))
        for number, grant in enumerate(grants)
    ]


def ended(account: Account, *, now: datetime) -> list[EndedLot]:
    """Return the lots that ended last, the newest first."""
    gone = Q(remaining_micros=0) | Q(expires_at__lte=now)
    grants = Grant.objects.filter(gone, organization_id=account.organization_id)
    newest = list(
        grants.annotate(ended_at=Max("entries__transaction__occurred_at")).order_by("-ended_at", "-id")[:_ENDED]
    )
    moved = _moved(newest)
    return [_ended(grant, moved, now=now) for grant in newest]


def lasts_until(account: Account, credit_micros: int, *, now: datetime) -> datetime | None:
    """Return when the credit ends at the pace of the last two weeks; None if it was not used, or ends beyond a year."""
    spent = statements.spent_since(account, now - _PACE)
    if not spent or not credit_micros:
        return None
    lasts = _PACE * credit_micros / spent if credit_micros < spent * (_FAR // _PACE) else _FAR
    return now + lasts if lasts < _FAR else None


def _moved(grants: Iterable[Grant]) -> dict[tuple[int, str], int]:
    """Return the sums of the grants' entries, by grant and kind of transaction."""
    entries = Entry.objects.filter(grant__in=[grant.pk for grant in grants], book=Entry.Book.CREDIT)
    sums = entries.order_by("grant", "transaction__kind").values_list("grant", "transaction__kind")
    return {(grant, kind): int(micros) for grant, kind, micros in sums.annotate(Sum("micros"))}


def _ended(grant: Grant, moved: dict[tuple[int, str], int], *, now: datetime) -> EndedLot:
    unswept = grant.remaining_micros  # past its expiry, and the hourly sweep has not been here yet
    return EndedLot(
        grant=grant,
        spent_micros=-moved.get((grant.pk, Kind.SETTLE), 0),
        expired_micros=-moved.get((grant.pk, Kind.EXPIRE), 0) + unswept,
        taken_back_micros=-moved.get((grant.pk, Kind.REVERSE), 0),
        ended_at=getattr(grant, "ended_at", now),
    )
