"""What discounts take off a month: kept as it is computed anew, so that the books hold each change.

How much that is, is the caller's to say (billing knows minor units and terms). Here it leaves what is owed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import structlog
from django.db.models import Sum

from billing_portal.ledger import journal
from billing_portal.ledger.models import Account, DiscountLine, DiscountPosting, Transaction

log = structlog.get_logger(__name__)

Taken = Mapping[tuple[str, str], int]


def taken(organization_id: int, month: date, *, through: int | None = None) -> Counter[tuple[str, str]]:
    """Return the micros that discounts take off a month, by (discount, component); none is zero.

    `through` is the id of the last transaction that counts.
    """
    lines = DiscountLine.objects.filter(organization_id=organization_id, posting__month=month)
    if through is not None:
        lines = lines.filter(posting__transaction_id__lte=through)
    sums = lines.order_by().values_list("discount", "component").annotate(Sum("micros"))
    return Counter({(discount, component): int(micros) for discount, component, micros in sums if micros})


def take_off(
    account: Account, month: date, due: Taken, *, terms: Sequence[Sequence[Any]], reason: str, now: datetime
) -> Transaction | None:
    """Let discounts take `due` micros off a month in all; post what changed, or nothing where nothing did.

    Under the account's lock, in an open month. `terms` are kept as they are, for whoever computes it again.
    """
    before = taken(account.organization_id, month)
    changes = {name: due.get(name, 0) - before[name] for name in sorted({*due, *before})}
    changes = {name: micros for name, micros in changes.items() if micros}
    if not changes:
        return None
    micros = sum(changes.values())
    earlier = DiscountPosting.objects.filter(organization_id=account.organization_id, month=month)
    posted = journal.post(
        account,
        kind=Transaction.Kind.DISCOUNT,
        reference=f"discount:{month:%Y-%m}:{earlier.count() + 1}",
        sides=[journal.Side(journal.Book.RECEIVABLE, micros), journal.Side(journal.Book.DISCOUNTED, -micros)],
        reason=reason[:200],
        now=now,
    )
    posting = DiscountPosting.objects.create(
        organization_id=account.organization_id, transaction=posted, month=month, terms=list(map(list, terms))
    )
    DiscountLine.objects.bulk_create(
        DiscountLine(
            organization_id=account.organization_id, posting=posting, discount=name, component=component, micros=change
        )
        for (name, component), change in changes.items()
    )
    log.info("discount taken off", organization_id=account.organization_id, transaction_id=posted.pk, micros=micros)
    return posted
