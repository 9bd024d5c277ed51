"""Settlement: number the waiting charges of organizations, and decide what pays for them.

Credit is burnt greedily in burn order, so the grants cover the first micros of a range of charges and what is left is
accrued to the card. Which part of which component that was follows from the order of charges and of their lines alone.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter

import structlog
from django.db import transaction

from billing_portal.ledger import accounts, allocation, credits, give_backs, periods, settlement_rows
from billing_portal.ledger.allocation import Allocation
from billing_portal.ledger.models import Account, Grant, Settlement
from billing_portal.ledger.settlement_rows import Funded
from usage import charges, dimensions, prices, revisions
from usage.charges import Batch, Charge, WaitingRange
from usage.rollup_upkeep import MixMicros

_CALLS = Settlement.Source.CALLS

log = structlog.get_logger(__name__)

LIMIT = 10_000


def settle(organization_id: int, *, now: datetime, limit: int = LIMIT) -> int:
    """Fund up to `limit` waiting charges, all of one billing month; return how many, 0 when none waits.

    Under the account's lock: numbers them without a gap, burns credit, accrues the rest, writes the journal, and gives
    back what revisions among them cost less. Raises AccountMissing, AccountFrozen.
    """
    with transaction.atomic():
        return _settle([accounts.lock(organization_id)], now=now, limit=limit)[organization_id]


def settle_many(organization_ids: Iterable[int], *, now: datetime, limit: int = LIMIT) -> Counter[int]:
    """Do for several organizations at once what `settle` does for each; return how many charges by organization.

    In one transaction, a statement for all of them each: at most `limit` charges together. Who has no books or is
    frozen is left out. Nothing is returned when nothing waits.
    """
    # Nobody need be locked whose charges are not among the first `limit`.
    while turn := charges.turn(accounts.not_frozen(organization_ids), limit):
        with transaction.atomic():
            if settled := _settle(accounts.lock_many(turn), now=now, limit=limit):
                return settled
        # Somebody else settled all of theirs before they were locked.
    return Counter()


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
    return funding_within(settlement, starts=before, micros=charge.amount_micros)


def funding_within(settlement: Settlement, *, starts: int, micros: int) -> Funding:
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


def _settle(locked: Sequence[Account], *, now: datetime, limit: int) -> Counter[int]:
    """Settle what waits on accounts that are locked."""
    found = charges.take([account.organization_id for account in locked], limit)
    if not found:
        return Counter()
    waiting = [(account, found[account.organization_id]) for account in locked if account.organization_id in found]
    batches = _batches(waiting)
    _, has_corrections, added = charges.settle(batches)
    components = _components({each.mix_id for each in added})
    grants: dict[int, list[Grant]] = {batch.organization_id: [] for batch in batches}
    for grant in credits.spendable(*(account for account, _ in waiting), now=now):
        grants[grant.organization_id].append(grant)
    remainders = {each: [grant.remaining_micros for grant in of_it] for each, of_it in grants.items()}
    allocated = _allocate(batches, _gross(added, components), remainders, components)
    funded = [
        Funded(
            account,
            _CALLS,
            batch.month,
            batch.calls,
            grants[batch.organization_id],
            allocated[batch.organization_id],
        )
        for (account, _), batch in zip(waiting, batches, strict=True)
    ]
    settlement_rows.write(funded, now=now)
    if has_corrections:
        _give_back(((account, batch) for (account, _), batch in zip(waiting, batches, strict=True)), now=now)
    for each in funded:
        log.info(
            "usage settled",
            organization_id=each.account.organization_id,
            first_sequence=each.first_sequence,
            last_sequence=each.last_sequence,
            gross_micros=each.gross_micros,
            accrued_micros=each.accrued_micros,
        )
    return Counter({batch.organization_id: batch.calls for batch in batches})


def _give_back(settled: Iterable[tuple[Account, Batch]], *, now: datetime) -> None:
    """Give back what the revisions that were just settled cost less than was charged before."""
    for account, batch in settled:
        given = revisions.given_back(batch.organization_id, [each.first_id for each in batch.ranges], batch.month)
        if given:
            of_organization = Settlement.objects.filter(organization_id=batch.organization_id)
            settlement = of_organization.get(first_sequence=batch.first_sequence)
            give_backs.give(account, settlement, given, now=now)


def _batches(waiting: Sequence[tuple[Account, list[WaitingRange]]]) -> list[Batch]:
    """Return for each account what of its ranges is billed in the month of the earliest call."""
    first = [(account, ranges[0].starts_at) for account, ranges in waiting]
    return [
        Batch(
            organization_id=account.organization_id,
            ranges=charges.before(account.organization_id, ranges, ends_at=period.ends_at),
            first_sequence=account.last_sequence + 1,
            month=period.month,
            time_zone=account.organization.time_zone,
        )
        for (account, ranges), period in zip(waiting, periods.of_instants(first), strict=True)
    ]


def _components(mix_ids: set[int]) -> dict[int, list[str]]:
    """Return by mix the components of its lines, in their places."""
    rate_ids = dimensions.rate_ids(mix_ids)
    refs = prices.rate_refs({rate_id for ids in rate_ids.values() for rate_id in ids})
    return {mix_id: [refs[rate_id].component for rate_id in ids] for mix_id, ids in rate_ids.items()}


def _gross(added: Iterable[MixMicros], components: dict[int, list[str]]) -> dict[int, Counter[str]]:
    """Return micros by organization and component; what is free counts as nothing."""
    gross: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for each in added:
        of_organization = gross[each.organization_id]
        for component, micros in zip(components[each.mix_id], each.line_micros, strict=True):
            if micros:
                of_organization[component] += micros
    return gross


def _allocate(
    batches: Sequence[Batch],
    gross: dict[int, Counter[str]],
    remainders: dict[int, list[int]],
    components: dict[int, list[str]],
) -> dict[int, Allocation]:
    """Decide what pays: by sums where one payer pays for all of it, else line by line in the order of the charges."""
    by_lines = [
        batch
        for batch in batches
        if remainders[batch.organization_id]
        and remainders[batch.organization_id][0] < gross[batch.organization_id].total()
    ]
    found = {}
    calls = charges.line_micros(by_lines) if by_lines else ()
    for organization_id, of_organization in itertools.groupby(calls, key=itemgetter(0)):
        lines = (
            line for _, mix_id, micros in of_organization for line in zip(components[mix_id], micros, strict=False)
        )
        found[organization_id] = allocation.allocate(lines, remainders[organization_id], gross=gross[organization_id])
    for batch in batches:
        if batch.organization_id not in found:
            of_sums = gross[batch.organization_id].items()
            found[batch.organization_id] = allocation.allocate(of_sums, remainders[batch.organization_id])
    return found
