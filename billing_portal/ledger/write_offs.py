"""Forgiving what is owed.

Before its month is closed, what is forgiven comes off the month's invoice as goodwill, component by component. After
that the invoice stands; what is written off then is a debt that nobody collects any more.
"""

from datetime import date, datetime

import structlog
from django.db import transaction
from django.db.models import QuerySet

from accounts.models import Organization
from billing_portal.ledger import accounts, balances, journal, periods, totals
from billing_portal.ledger.models import Account, Transaction, WriteOff, WriteOffLine
from usage.models import Billable

log = structlog.get_logger(__name__)


class MoreThanOwed(ValueError):
    """Less is owed than should be forgiven."""

    def __init__(self, month: date, owed_micros: int, micros: int) -> None:
        super().__init__(f"{owed_micros} micros of {month:%Y-%m} can be forgiven, not {micros}.")
        self.month = month
        self.owed_micros = owed_micros
        self.micros = micros


class AlreadyGivenUp(Exception):
    """The debt is written off already."""

    def __init__(self, debt: str) -> None:
        super().__init__(f"{debt} is written off already.")
        self.debt = debt


class MonthClosed(Exception):
    """The month's invoice stands: its debt can be written off whole, but not lowered."""

    def __init__(self, month: date) -> None:
        super().__init__(f"{month:%B %Y} is closed, so its invoice stands.")
        self.month = month


def forgive(
    *, organization: Organization, month: date, micros: int, reason: str, reference: str, now: datetime
) -> Transaction:
    """Take `micros` off what the open `month` will be invoiced, once per `reference`.

    Raises MoreThanOwed, MonthClosed, ReferenceReused, and what `accounts.lock` raises.
    """
    with transaction.atomic():
        account = accounts.lock(organization.pk)
        if (known := _known(account, reference, month, micros, reason)) is not None:
            return known
        if _is_closed(organization.pk, month):
            raise MonthClosed(month)
        owed = forgivable_micros(account, month, now=now)
        if not 0 < micros <= owed:
            raise MoreThanOwed(month, owed, micros)
        left, parts = micros, {}
        accrued = totals.month(organization.pk, month).accrued
        for component in Billable.values:
            if taken := min(left, accrued.get(component, 0)):
                parts[component] = taken
                left -= taken
        posted = _post(account, month=month, micros=micros, reason=reason, reference=reference, now=now)
        WriteOffLine.objects.bulk_create(
            WriteOffLine(organization=organization, write_off=posted.write_off, component=component, micros=part)
            for component, part in parts.items()
        )
    log.info("usage forgiven", organization_id=organization.pk, transaction_id=posted.pk, micros=micros)
    return posted


def write_off(
    *, organization: Organization, month: date, micros: int, debt: str, reason: str, reference: str, now: datetime
) -> Transaction:
    """Give up `micros` that `debt`, an invoice of a month's usage, still owes, once per `reference`.

    The caller sees that nobody collects it any more. Raises MoreThanOwed, AlreadyGivenUp while an earlier write-off of
    the debt stands, ReferenceReused, and what `accounts.lock` raises.
    """
    with transaction.atomic():
        account = accounts.lock(organization.pk)
        if (known := _known(account, reference, month, micros, reason)) is not None:
            return known
        if given_up(organization.pk, debt).exists():
            raise AlreadyGivenUp(debt)
        owed = balances.balance(account, now=now).accrued_micros
        if not 0 < micros <= owed:
            raise MoreThanOwed(month, owed, micros)
        posted = _post(account, month=month, micros=micros, reason=reason, reference=reference, now=now, debt=debt)
    log.info("debt written off", organization_id=organization.pk, transaction_id=posted.pk, micros=micros)
    return posted


def given_up(organization_id: int, debt: str) -> QuerySet[WriteOff]:
    """Return the write-off of a debt that stands, if there is one."""
    standing = WriteOff.objects.filter(organization_id=organization_id, transaction__reversed_by=None)
    return standing.filter(debt=debt).order_by("id")


def forgivable_micros(account: Account, month: date, *, now: datetime) -> int:
    """Return how much of a month can be forgiven: what it accrued, as far as that is still owed."""
    accrued = totals.month(account.organization_id, month).accrued_micros
    return max(0, min(accrued, balances.balance(account, now=now).accrued_micros))


def _is_closed(organization_id: int, month: date) -> bool:
    closed = periods.last_closed(organization_id)
    return closed is not None and month <= closed.month


def _post(
    account: Account, *, month: date, micros: int, reason: str, reference: str, now: datetime, debt: str = ""
) -> Transaction:
    sides = [journal.Side(journal.Book.RECEIVABLE, micros), journal.Side(journal.Book.WRITTEN_OFF, -micros)]
    kind = Transaction.Kind.WRITE_OFF
    posted = journal.post(account, kind=kind, reference=reference, sides=sides, now=now, reason=reason)
    WriteOff.objects.create(
        organization_id=account.organization_id, transaction=posted, month=month, micros=micros, debt=debt
    )
    return posted


def _known(account: Account, reference: str, month: date, micros: int, reason: str) -> Transaction | None:
    known = journal.posted(account, reference)
    if known is None:
        return None
    before = WriteOff.objects.filter(transaction=known).values_list("month", "micros", "transaction__reason").first()
    if before != (month, micros, reason):
        raise journal.ReferenceReused(reference, (known.kind, before), (month, micros, reason))
    return known
