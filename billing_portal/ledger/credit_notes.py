"""What a credit note takes off a bill: from the debt while it is unpaid, from the payments once it was paid."""

from datetime import datetime

import structlog
from django.db import transaction
from django.db.models import Sum

from accounts.models import Organization
from billing_portal.ledger import accounts, journal
from billing_portal.ledger.models import Entry, Transaction

log = structlog.get_logger(__name__)


def lower(
    *,
    organization: Organization,
    debt_micros: int,
    paid_micros: int,
    reason: str,
    reference: str,
    now: datetime,
    was_misbilled: bool = False,
) -> Transaction:
    """Lower a debt, and what was paid for one, once per `reference`; negative amounts undo a note that was voided.

    `was_misbilled` says that the bill was more than the books had accrued: then no debt of ours is lowered, and what
    was paid too much leaves by the book where its collection put it. Raises what `accounts.lock` raises.
    """
    against = journal.Book.ROUNDING if was_misbilled else journal.Book.CREDITED
    with transaction.atomic():
        account = accounts.lock(organization.pk)
        known = journal.posted(account, reference)
        if known is not None:
            return known
        sides = [
            journal.Side(journal.Book.RECEIVABLE, debt_micros),
            journal.Side(journal.Book.PAYMENTS, paid_micros),
            journal.Side(against, -debt_micros - paid_micros),
        ]
        kind = Transaction.Kind.CREDIT_NOTE
        posted = journal.post(account, kind=kind, reference=reference, sides=sides, now=now, reason=reason[:200])
    log.info(
        "bill lowered", organization_id=organization.pk, transaction_id=posted.pk, micros=debt_micros + paid_micros
    )
    return posted


def lowered(organization_id: int, prefix: str) -> tuple[int, int]:
    """Return what all notes whose reference begins with `prefix` took off the debt and off the payments, in micros."""
    posted = Entry.objects.filter(organization_id=organization_id, transaction__reference__startswith=prefix)
    sums = dict(posted.order_by("book").values_list("book").annotate(Sum("micros")))
    return int(sums.get(Entry.Book.RECEIVABLE, 0)), int(sums.get(Entry.Book.PAYMENTS, 0))
