"""Billing months of an organization, in its own time zone, without gaps."""

from collections.abc import Sequence
from datetime import date, datetime

from django.db import transaction
from django.db.models import F

from accounts import organizations
from accounts.models import Organization
from billing_portal.ledger import accounts
from billing_portal.ledger.models import Account, Period
from usage import columns
from usage import periods as months


class PeriodNotOver(Exception):
    """A period is closed only after it has ended."""


def of_instant(account: Account, instant: datetime) -> Period:
    """Return the period in which something that happened at `instant` is billed.

    That is the month it happened in, in the organization's zone, or, once that month is closed or lies before the
    account was opened, the earliest one still open. Call it under the account's lock.
    """
    instant = max(instant, account.opened_at)
    closed = last_closed(account.organization_id)
    if closed is not None:
        instant = max(instant, closed.ends_at)
    known = Period.objects.filter(organization_id=account.organization_id)
    before = known.filter(starts_at__lte=instant).order_by("-starts_at").first()
    if before is not None and instant < before.ends_at:
        return before
    after = known.filter(starts_at__gt=instant).order_by("starts_at").first()
    month = months.month_of(instant, account.organization.zone)
    # Where the organization moved, its new clocks may say for some hours that the month before goes on, or that the one
    # after has begun.
    if before is not None:
        month = max(month, months.next_month(before.month))
    if after is not None:
        month = min(month, months.previous_month(after.month))
    return _get_or_open(account.organization, month)


_OF_INSTANTS = """
    SELECT period.*
    FROM unnest(%(organizations)s::bigint[], %(instants)s::timestamptz[]) AS asked (organization_id, instant)
    CROSS JOIN LATERAL (
        SELECT greatest(asked.instant, max(ends_at)) AS instant FROM ledger_period
        WHERE organization_id = asked.organization_id AND closed_at IS NOT NULL
    ) AS billed
    CROSS JOIN LATERAL (
        SELECT * FROM ledger_period WHERE organization_id = asked.organization_id AND starts_at <= billed.instant
        ORDER BY starts_at DESC LIMIT 1
    ) AS period
    WHERE billed.instant < period.ends_at"""


def of_instants(asked: Sequence[tuple[Account, datetime]]) -> list[Period]:
    """Return for each account and instant what `of_instant` does, in their order; one query where all are open yet."""
    rows = [(account.organization_id, max(instant, account.opened_at)) for account, instant in asked]
    values = columns.of(("organizations", "instants"), rows)
    known = {period.organization_id: period for period in Period.objects.raw(_OF_INSTANTS, values)}
    return [known.get(account.organization_id) or of_instant(account, instant) for account, instant in asked]


def last_closed(organization_id: int) -> Period | None:
    """Return the newest closed period. Periods close in order, so everything before it is closed too."""
    return Period.objects.filter(organization_id=organization_id, closed_at__isnull=False).order_by("-month").first()


def open_months(organization_id: int) -> list[date]:
    """Return the months that are not closed, in order: their usage is on no invoice of a month yet."""
    still_open = Period.objects.filter(organization_id=organization_id, closed_at=None).order_by("month")
    return list(still_open.values_list("month", flat=True))


def note_invoiced(organization_id: int, month: date, micros: int) -> None:
    """Note that an invoice bills so much of what an open month has accrued; negative once it is void.

    Once an invoice, in the transaction that makes or ends it.
    """
    of_month = Period.objects.filter(organization_id=organization_id, month=month)
    of_month.update(invoiced_micros=F("invoiced_micros") + micros)


def invoiced(organization_id: int, month: date) -> int:
    """Return the micros of what a month has accrued that invoices bill already, whether they are paid or not."""
    known = Period.objects.filter(organization_id=organization_id, month=month).values_list(
        "invoiced_micros", flat=True
    )
    return known.first() or 0


def close(organization_id: int, month: date, *, now: datetime) -> Period:
    """Close a month, and any open one before it: later charges go to the next. Closing again changes nothing.

    Raises PeriodNotOver before the month has ended in the organization's zone.
    """
    with transaction.atomic():
        account = accounts.lock(organization_id)
        before = last_closed(organization_id)
        period = _get_or_open(account.organization, month)
        if now < period.ends_at:
            raise PeriodNotOver(f"{period} ends at {period.ends_at:%Y-%m-%d %H:%M} UTC.")
        Period.objects.filter(organization_id=organization_id, month__lte=month, closed_at=None).update(closed_at=now)
        period.refresh_from_db()
        if before is None or before.month < month:
            # A change of zone takes effect now that a period ended.
            organizations.adopt_time_zone(account.organization)
    return period


def _get_or_open(organization: Organization, month: date) -> Period:
    """Return the month's period, opening it in the organization's present zone if it is new.

    It begins where the month before it ended and ends where the one after it began, also when the zone changed in
    between.
    """
    around = [months.previous_month(month), month, months.next_month(month)]
    near = {each.month: each for each in Period.objects.filter(organization=organization, month__in=around)}
    if month in near:
        return near[month]
    starts_at, ends_at = months.bounds(month, organization.zone)
    before, after = near.get(months.previous_month(month)), near.get(months.next_month(month))
    return Period.objects.create(
        organization=organization,
        month=month,
        time_zone=organization.time_zone,
        starts_at=before.ends_at if before else starts_at,
        ends_at=after.starts_at if after else ends_at,
    )
