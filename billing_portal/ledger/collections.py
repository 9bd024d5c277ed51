"""What came in for what was accrued."""

from datetime import datetime

import structlog
from django.db import transaction

from accounts.models import Organization
from billing_portal.ledger import accounts, journal
from billing_portal.ledger.models import Transaction

log = structlog.get_logger(__name__)


def collect(
    *, organization: Organization, accrued_micros: int, paid_micros: int, reference: str, now: datetime
) -> Transaction:
    """Record that what was accrued has been paid, once per `reference`; the rest is the invoice's rounding.

    Raises ReferenceReused if the reference names other amounts.
    """
    sides = [
        journal.Side(journal.Book.RECEIVABLE, accrued_micros),
        journal.Side(journal.Book.PAYMENTS, -paid_micros),
        journal.Side(journal.Book.ROUNDING, paid_micros - accrued_micros),
    ]
    with transaction.atomic():
        account = accounts.lock(organization.pk)
        known = journal.posted(account, reference)
        if known is not None:
            _assert_same(known, sides)
            return known
        posted = journal.post(account, kind=Transaction.Kind.COLLECT, reference=reference, sides=sides, now=now)
    log.info("payment collected", organization_id=organization.pk, transaction_id=posted.pk, micros=paid_micros)
    return posted


def _assert_same(known: Transaction, sides: list[journal.Side]) -> None:
    entries = {entry.book: entry.micros for entry in known.entries.all()}
    given = {str(side.book): side.micros for side in sides if side.micros}
    if entries != given:
        raise journal.ReferenceReused(known.reference, entries, given)
