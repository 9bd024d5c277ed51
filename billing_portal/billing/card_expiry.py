"""Letters before the card that is charged expires: 30 and 7 days ahead, each once a card and date."""

from calendar import monthrange
from datetime import date, datetime, timedelta

from django.db.models import QuerySet

from accounts import letters
from accounts.models import Letter, Organization
from billing_portal.billing.models import PaymentMethod
from usage import periods

DAYS_BEFORE = (7, 30)  # the most urgent first


def last_day(method: PaymentMethod) -> date | None:
    """Return the last day on which the card may be charged; None for what does not expire."""
    if not method.expires_year or not method.expires_month:
        return None
    return date(method.expires_year, method.expires_month, monthrange(method.expires_year, method.expires_month)[1])


def warn(*, now: datetime, limit: int = 500) -> int:
    """Write the warnings that are due, at most so many; return how many letters that were."""
    return sum(_warn(method, now=now) for method in _near(now)[:limit])


def _near(now: datetime) -> QuerySet[PaymentMethod]:
    """Return the cards that are charged and expire this month or the next one or so; roughly."""
    months = {(day.year, day.month) for day in (now.date() + timedelta(days=n) for n in (-1, 15, 32))}
    years, numbers = {year for year, _ in months}, {month for _, month in months}
    charged = PaymentMethod.objects.filter(is_default=True, removed_at=None)
    near = charged.filter(expires_year__in=years, expires_month__in=numbers)
    return near.exclude(organization__status=Organization.Status.CLOSED).select_related("organization").order_by("id")


def _warn(method: PaymentMethod, *, now: datetime) -> int:
    """Write the warning for now, the most urgent that applies, unless it is written."""
    organization, ends_on = method.organization, last_day(method)
    if ends_on is None:
        return 0
    left = (ends_on - periods.day_of(now, organization.zone)).days
    days = next((each for each in DAYS_BEFORE if 0 <= left <= each), None)
    # The bank may renew the card under the same row: the date is part of the name.
    reference = f"card_expires:{method.pk}:{ends_on}:{days}"
    if days is None or Letter.objects.filter(reference=reference).exists():
        return 0
    return letters.write(
        template="emails/card_expires",
        reference=reference,
        to=letters.billing_addresses(organization),
        organization=organization,
        method=method,
        ends_on=ends_on,
        when={0: "today", 1: "tomorrow"}.get(left, f"in {left} days"),
        now=now,
    )
