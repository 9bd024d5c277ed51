"""How well money comes in, by month: what staff judge collecting by. Every figure says what it is made of.

All of it is read from our rows of Stripe's objects (`Invoice`, `PaymentAttempt`, `Overdue`) and the ledger's grants.
A month is UTC's, as a figure is of many organizations. Nothing here is rounded: a share is kept as its two parts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db.models import Avg, Count, DurationField, Exists, ExpressionWrapper, F, Max, OuterRef, Q, QuerySet, Sum

from billing_portal.billing.models import Invoice, Mismatch, Overdue, PaymentAttempt
from billing_portal.ledger.models import Finding, Grant

State = PaymentAttempt.State


@dataclass(frozen=True, slots=True)
class Month:
    """A month of one currency: half-open instants. `now` is when it is looked at."""

    starts_at: datetime
    ends_at: datetime
    currency: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole, in one unit: minor units, or a count."""

    part: int
    whole: int

    @property
    def percent(self) -> float | None:
        """Return the share in percent; None of nothing."""
        return 100 * self.part / self.whole if self.whole else None


Value = Share | int | timedelta | None


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: its name, what it is exactly, and how it is read. `unit` is percent, minor or days."""

    name: str
    label: str
    definition: str
    unit: str
    read: Callable[[Month], Value]


def _of_usage(month: Month) -> QuerySet[Invoice]:
    """Return the invoices of usage that became final in the month and ask for money."""
    bills_usage = Q(month__isnull=False) | Q(interim__isnull=False)
    final = Invoice.objects.filter(finalized_at__gte=month.starts_at, finalized_at__lt=month.ends_at)
    return final.filter(bills_usage, currency=month.currency, amount_due_minor__gt=0).exclude(state=Invoice.State.VOID)


def _attempts(month: Month) -> QuerySet[PaymentAttempt]:
    tried = PaymentAttempt.objects.filter(attempted_at__gte=month.starts_at, attempted_at__lt=month.ends_at)
    return tried.filter(currency=month.currency)


def _unpaid(month: Month) -> Share:
    asked = _of_usage(month)
    unpaid = asked.exclude(state=Invoice.State.PAID)
    return Share(_sum(unpaid, F("amount_due_minor") - F("amount_paid_minor")), _sum(asked, F("amount_due_minor")))


def _authorized(month: Month) -> Share:
    decided = _attempts(month).exclude(state=State.PENDING).exclude(outcome="blocked")
    return Share(decided.filter(state=State.SUCCEEDED).count(), decided.count())


def _recovered(month: Month) -> Share:
    failed = Overdue.objects.filter(failed_at__gte=month.starts_at, failed_at__lt=month.ends_at)
    failed = failed.filter(invoice__currency=month.currency)
    paid = failed.filter(invoice__state=Invoice.State.PAID)
    due = F("invoice__amount_due_minor")
    return Share(_sum(paid, due), _sum(failed, due))


def _by_link(month: Month) -> Share:
    taken = _attempts(month).filter(state=State.SUCCEEDED)
    return Share(_sum(taken.filter(kind="link"), F("amount_minor")), _sum(taken, F("amount_minor")))


def _blocked(month: Month) -> int:
    return _sum(_attempts(month).filter(outcome="blocked"), F("amount_minor"))


def _days_to_pay(month: Month) -> timedelta | None:
    paid = _of_usage(month).filter(state=Invoice.State.PAID, paid_at__isnull=False)
    took = ExpressionWrapper(F("paid_at") - F("finalized_at"), output_field=DurationField())
    found: timedelta | None = paid.aggregate(mean=Avg(took))["mean"]
    return found


def _converted(month: Month) -> Share:
    given = Grant.objects.filter(created_at__gte=month.starts_at, created_at__lt=month.ends_at)
    given = given.filter(kind=Grant.Kind.WELCOME, currency=month.currency)
    paid = PaymentAttempt.objects.filter(organization=OuterRef("organization"), state=State.SUCCEEDED)
    counted = given.aggregate(
        part=Count("organization", distinct=True, filter=Q(Exists(paid))),
        whole=Count("organization", distinct=True),
    )
    return Share(counted["part"], counted["whole"])


def _sum(rows: QuerySet[Any], value: Any) -> int:
    return int(rows.aggregate(sum=Sum(value))["sum"] or 0)


FIGURES = (
    Figure(
        "unpaid",
        "Unpaid share of balances",
        "Of what invoices of usage asked for that became final in the month, the part that is not paid today.",
        "percent",
        _unpaid,
    ),
    Figure(
        "authorized",
        "Authorization rate",
        "Of the charges that banks decided in the month, the share that they took. What Radar blocked is left out.",
        "percent",
        _authorized,
    ),
    Figure(
        "recovered",
        "Recovered after a failure",
        "Of the invoices whose first payment failed in the month, the part by amount that is paid today.",
        "percent",
        _recovered,
    ),
    Figure(
        "link",
        "Link's share",
        "Of the amount taken in the month, the part that was paid with Link.",
        "percent",
        _by_link,
    ),
    Figure(
        "blocked", "Fraud blocked", "What Radar blocked in the month, each attempt with its amount.", "minor", _blocked
    ),
    Figure(
        "days_to_pay",
        "Days to pay",
        "From final to paid, the mean of the month's paid invoices of usage.",
        "days",
        _days_to_pay,
    ),
    Figure(
        "converted",
        "Welcome credit converted",
        "Of the organizations that were given welcome credit in the month, the share that has paid anything since.",
        "percent",
        _converted,
    ),
)


def of_month(day: date, *, currency: str, now: datetime) -> dict[str, Value]:
    """Return every figure of the month that begins on `day`, by name."""
    month = Month(_midnight(day), _midnight(_next(day)), currency, now)
    return {figure.name: figure.read(month) for figure in FIGURES}


def months(count: int, *, now: datetime) -> list[date]:
    """Return the last months up to the one of `now`, the oldest first."""
    days = [now.astimezone(UTC).date().replace(day=1)]
    while len(days) < count:
        days.append((days[-1] - timedelta(days=1)).replace(day=1))
    return days[::-1]


def hours_without_difference(*, now: datetime) -> int | None:
    """Return the whole hours since a difference that does not heal itself was last seen; 0 while one is unexplained.

    Counted are those of the reconciliation and of the books' own proof. None if none was ever seen.
    """
    of_staff = Mismatch.objects.filter(owner=Mismatch.Owner.STAFF)
    in_books = Finding.objects.filter(resolved_at=None, accepted_at=None)
    if of_staff.filter(state=Mismatch.State.OPEN).exists() or in_books.exists():
        return 0
    seen = [of_staff.aggregate(at=Max("seen_at"))["at"], Finding.objects.aggregate(at=Max("noticed_at"))["at"]]
    last = max((at for at in seen if at is not None), default=None)
    return None if last is None else (now - last) // timedelta(hours=1)


def _next(day: date) -> date:
    return (day + timedelta(days=32)).replace(day=1)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, 1, tzinfo=UTC)
