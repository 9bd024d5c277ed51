"""Settlement: number the waiting charges of an organization, and decide what pays for them.

Credit is burnt greedily in burn order, so the grants cover the first micros of a range of charges and what is left is
accrued to the card. Which part of which component that was follows from the order of charges and of their lines alone.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime

import structlog
from django.db import transaction

from billing_portal.ledger import accounts, allocation, credits, journal, periods
from billing_portal.ledger.models import Account, Burn, Grant, Settlement, SettlementLine, Transaction
from usage import charges, dimensions, prices
from usage.charges import Charge, ChargedCall, WaitingRange
from usage.rollups import Sums

log = structlog.get_logger(__name__)


def settle(organization_id: int, *, now: datetime, limit: int = 10_000) -> int:
    """Fund up to `limit` waiting charges, all of one billing month; return how many, 0 when none waits.

    Under the account's lock: numbers them without a gap, burns credit, accrues the rest, writes the journal.
    """
    with transaction.atomic():
        account = accounts.lock(organization_id)
        waiting = charges.take(organization_id, limit)
        if not waiting:
            return 0
        month, batch = _first_month(account, waiting)
        first, count = account.last_sequence + 1, sum(each.calls for each in batch)
        sums = charges.settle(
            organization_id=organization_id,
            batch=batch,
            first_sequence=first,
            month=month,
            time_zone=account.organization.time_zone,
        )
        grants = list(credits.spendable(account, now=now))
        allocated = _allocate(organization_id, batch, _by_component(sums), grants)
        settlement = _write(account, month=month, first=first, count=count, allocated=allocated, now=now)
        _burn(account, settlement, grants, allocated, now=now)
        account.last_sequence = settlement.last_sequence
        account.save(update_fields=["last_sequence"])
    log.info(
        "usage settled",
        organization_id=organization_id,
        first_sequence=settlement.first_sequence,
        last_sequence=settlement.last_sequence,
        gross_micros=settlement.gross_micros,
        accrued_micros=settlement.accrued_micros,
    )
    return count


def settle_all(organization_id: int, *, now: datetime) -> int:
    """Settle until nothing waits; return how many charges that were."""
    total = 0
    while settled := settle(organization_id, now=now):
        total += settled
    return total


@dataclass(frozen=True, slots=True)
class Funding:
    """Who paid for one charge: micros by grant, and what is accrued to the card."""

    grants: list[tuple[Grant, int]]
    accrued_micros: int


def funding(charge: Charge) -> Funding | None:
    """Return how a charge was funded, or None while it waits for settlement. It adds up to the charge exactly."""
    if charge.sequence is None:
        return None
    organization_id = charge.call.organization_id
    settlement = Settlement.objects.get(
        organization_id=organization_id,
        first_sequence__lte=charge.sequence,
        last_sequence__gte=charge.sequence,
    )
    before = charges.micros_between(organization_id, settlement.first_sequence, charge)
    return _funding_within(settlement, starts=before, micros=charge.amount_micros)


def _funding_within(settlement: Settlement, *, starts: int, micros: int) -> Funding:
    """Cut the interval [starts, starts + micros) out of the settlement's burns, which stand in burn order."""
    burns = settlement.burns.select_related("grant").order_by("id")
    paid: list[tuple[Grant, int]] = []
    covered = 0
    for grant, of_grant in itertools.groupby(burns, key=lambda burn: burn.grant):
        ends = covered + sum(burn.micros for burn in of_grant)
        overlap = min(ends, starts + micros) - max(covered, starts)
        if overlap > 0:
            paid.append((grant, overlap))
        covered = ends
    return Funding(grants=paid, accrued_micros=micros - sum(part for _, part in paid))


def _first_month(account: Account, waiting: list[WaitingRange]) -> tuple[date, list[WaitingRange]]:
    """Return the billing month of the earliest call among the waiting, and what of the ranges belongs to it."""
    period = periods.of_instant(account, waiting[0].starts_at)
    return period.month, charges.before(account.organization_id, waiting, ends_at=period.ends_at)


def _by_component(sums: Sums) -> Counter[str]:
    """Return micros by component; what is free counts as nothing."""
    rate_ids = dimensions.rate_ids({cell.mix_id for cell in sums.mixes})
    refs = prices.rate_refs({rate_id for ids in rate_ids.values() for rate_id in ids})
    components: Counter[str] = Counter()
    for cell in sums.mixes:
        for rate_id, micros in zip(rate_ids[cell.mix_id], cell.line_micros, strict=True):
            components[refs[rate_id].component] += micros
    return +components


def _allocate(
    organization_id: int, batch: list[WaitingRange], gross: Counter[str], grants: list[Grant]
) -> allocation.Allocation:
    """Decide what pays: by sums where one payer pays for all of it, else line by line in the order of the charges."""
    remainders = [grant.remaining_micros for grant in grants]
    if not remainders or remainders[0] >= gross.total():
        return allocation.allocate(gross.items(), remainders)
    return allocation.allocate(_lines(charges.of_batch(organization_id, batch)), remainders)


def _lines(charged: Iterable[ChargedCall]) -> Iterator[tuple[str, int]]:
    """Yield (component, micros) of every line, charge by charge in their order."""
    components: dict[int, str] = {}
    for each in charged:
        for rate_id, micros in zip(each.rate_ids, each.line_micros, strict=False):
            if rate_id not in components:
                components[rate_id] = prices.rate_refs({rate_id})[rate_id].component
            yield components[rate_id], micros


def _write(
    account: Account, *, month: date, first: int, count: int, allocated: allocation.Allocation, now: datetime
) -> Settlement:
    settlement = Settlement.objects.create(
        organization_id=account.organization_id,
        month=month,
        first_sequence=first,
        last_sequence=first + count - 1,
        gross_micros=allocated.gross.total(),
        accrued_micros=allocated.accrued.total(),
        settled_at=now,
    )
    SettlementLine.objects.bulk_create(
        SettlementLine(
            organization_id=account.organization_id,
            settlement=settlement,
            component=component,
            gross_micros=gross,
            accrued_micros=allocated.accrued[component],
        )
        for component, gross in sorted(allocated.gross.items())
    )
    return settlement


def _burn(
    account: Account, settlement: Settlement, grants: list[Grant], allocated: allocation.Allocation, *, now: datetime
) -> None:
    """Write the burns in burn order, lower the remainders, and post the transaction."""
    Burn.objects.bulk_create(
        Burn(
            organization_id=account.organization_id,
            settlement=settlement,
            grant=grants[position],
            component=component,
            micros=micros,
        )
        for (position, component), micros in sorted(allocated.burnt.items())
    )
    taken: Counter[int] = Counter()
    for (position, _), micros in allocated.burnt.items():
        taken[position] += micros
    for position, micros in sorted(taken.items()):
        grants[position].remaining_micros -= micros
        grants[position].save(update_fields=["remaining_micros"])
    sides = [journal.Side(journal.Book.CREDIT, -micros, grants[position]) for position, micros in sorted(taken.items())]
    sides.append(journal.Side(journal.Book.RECEIVABLE, -settlement.accrued_micros))
    sides.append(journal.Side(journal.Book.USAGE, settlement.gross_micros))
    reference = f"settle:{settlement.first_sequence}-{settlement.last_sequence}"
    journal.post(account, kind=Transaction.Kind.SETTLE, reference=reference, sides=sides, now=now)
