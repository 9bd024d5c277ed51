"""Settlement of outcomes: number them after the calls, take bucket units first, then credit; the rest is accrued.

A reversal gives back what its charge took: the unit to its bucket while that is open, else, once and for ever, a
correction credit of what the unit or the outcome cost. The month it was billed in stays as it was.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime

import structlog
from django.db import transaction

from billing_portal.ledger import accounts, allocation, bucket_claims, buckets, credits, periods, settlement_rows
from billing_portal.ledger.models import Account, Bucket, Grant, Settlement
from billing_portal.ledger.settlement_rows import Funded
from usage.outcomes import charges
from usage.outcomes.charges import REVERSAL, Settled, Waiting

log = structlog.get_logger(__name__)


def settle(organization_id: int, *, now: datetime, limit: int = 10_000) -> int:
    """Fund up to `limit` waiting outcomes and reversals, all of one billing month; return how many, 0 when none waits.

    Credit given back pays for what follows it, never for what stands before it: however the waiting are split, the
    balances are the same (I8).
    """
    with transaction.atomic():
        account = accounts.lock(organization_id)
        waiting = charges.take(organization_id, limit)
        if not waiting:
            return 0
        units = _Units.of(account, waiting, now=now)
        month, batch = _first_stretch(account, waiting, units)
        first = account.last_sequence + 1
        settled = [units.settle(sequence, each) for sequence, each in enumerate(batch, first)]
        _give_back(account, units.to_credit, now=now)
        grants = list(credits.spendable(account, now=now))
        prices = [(each.outcome, paid.amount_micros) for each, paid in zip(batch, settled, strict=True)]
        allocated = allocation.allocate(
            [line for line in prices if line[1]], [grant.remaining_micros for grant in grants]
        )
        funded = Funded(account, Settlement.Source.OUTCOMES, month, len(batch), grants, allocated)
        settlement_rows.write([funded], now=now)
        buckets.move(units.by_id.values(), funded.reference, units.used, units.returned, now=now)
        charges.settle(organization_id, settled, month=month, time_zone=account.organization.time_zone)
        bucket_claims.look_again(account, units.returned, now=now)
    log.info("outcomes settled", organization_id=organization_id, outcomes=len(batch), gross_micros=funded.gross_micros)
    return len(batch)


def settle_all(organization_id: int, *, now: datetime) -> int:
    """Settle until nothing waits; return how many outcomes and reversals that were."""
    total = 0
    while settled := settle(organization_id, now=now):
        total += settled
    return total


def reversal_reference(reversal_id: int) -> str:
    """Return the reference of the credit that a reversal gives."""
    return f"outcome-reversal:{reversal_id}"


@dataclass(slots=True)
class _Units:
    """The organization's buckets while a batch takes from them and gives back; `to_credit` is what they cannot take."""

    order: list[Bucket]
    by_id: dict[int, Bucket]
    now: datetime
    used: Counter[int] = field(default_factory=Counter)
    returned: Counter[int] = field(default_factory=Counter)
    to_credit: list[tuple[Waiting, int]] = field(default_factory=list)

    @classmethod
    def of(cls, account: Account, batch: list[Waiting], *, now: datetime) -> "_Units":
        """Return the buckets that the batch may take from, and those it may give back to."""
        concerned = {each.reversed_bucket_id for each in batch if each.reversed_bucket_id is not None}
        known = Bucket.objects.filter(organization_id=account.organization_id, pk__in=concerned)
        found = {bucket.pk: bucket for bucket in itertools.chain(buckets.spendable(account), known)}
        order = sorted(found.values(), key=lambda bucket: (bucket.expires_at, bucket.created_at, bucket.pk))
        return cls(order, found, now)

    def settle(self, sequence: int, waiting: Waiting) -> Settled:
        """Decide what one of the batch costs, and who gives or gets a unit."""
        if waiting.kind == REVERSAL:
            return Settled(waiting.id, sequence, 0, self._give_back(waiting))
        bucket = self._take(waiting)
        if bucket is None:
            return Settled(waiting.id, sequence, waiting.price_micros, None)
        return Settled(waiting.id, sequence, 0, bucket.pk)

    def bring_money(self, waiting: Waiting) -> bool:
        """Say whether one of the waiting gives back credit, not a unit."""
        if waiting.kind != REVERSAL:
            return False
        return waiting.reversed_bucket_id is None or self.by_id[waiting.reversed_bucket_id].expires_at <= self.now

    def _take(self, waiting: Waiting) -> Bucket | None:
        for bucket in self.order:
            if bucket.remaining_units and buckets.pays_for(bucket, waiting.outcome, waiting.decided_at):
                bucket.remaining_units -= 1
                self.used[bucket.pk] += 1
                return bucket
        return None

    def _give_back(self, waiting: Waiting) -> int | None:
        bucket = self.by_id[waiting.reversed_bucket_id] if waiting.reversed_bucket_id else None
        if bucket is None or self.bring_money(waiting):
            micros = buckets.unit_price_micros(bucket) if bucket else waiting.reversed_micros or 0
            self.to_credit.append((waiting, micros))
            return None
        bucket.remaining_units += 1
        self.returned[bucket.pk] += 1
        return bucket.pk


def _give_back(account: Account, to_credit: list[tuple[Waiting, int]], *, now: datetime) -> None:
    """Grant what reversed outcomes had cost, once each, for ever."""
    for waiting, micros in to_credit:
        if micros:
            credits.grant(
                organization=account.organization,
                kind=Grant.Kind.CORRECTION,
                micros=micros,
                reference=reversal_reference(waiting.id),
                reason=f"Conversation {waiting.conversation}: {waiting.outcome.replace('_', ' ')} taken back",
                now=now,
            )


def _first_stretch(account: Account, waiting: list[Waiting], units: _Units) -> tuple[date, list[Waiting]]:
    """Return the billing month of the first of the waiting, and those that can be settled with it.

    They are of the same month, and none of them brings back money after another has taken some.
    """
    months = _months(account, waiting)
    month = next(months)
    batch = [waiting[0]]
    for each, next_month in zip(waiting[1:], months, strict=True):
        if next_month != month or (units.bring_money(each) and batch[-1].kind != REVERSAL):
            break
        batch.append(each)
    return month, batch


def _months(account: Account, waiting: list[Waiting]) -> Iterator[date]:
    """Yield the month in which each of the waiting is billed."""
    period = periods.of_instant(account, waiting[0].decided_at)
    for each in waiting:
        if not period.starts_at <= each.decided_at < period.ends_at:
            period = periods.of_instant(account, each.decided_at)
        yield period.month
