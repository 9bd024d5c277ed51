"""Giving back what a corrected call costs less than was charged: once, as credit that does not expire.

Nothing that was settled changes. The credit is granted with the settlement that numbers the revision, and pays at once
for what the open month has accrued and no invoice bills yet; only what is left of it waits for later usage. So what is
not billed costs less, and what is billed is given back.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from billing_portal.ledger import balances, credits, journal, periods, totals
from billing_portal.ledger.models import Account, GiveBack, Grant, SetOff, Settlement, Transaction
from usage.models import Billable, CallRevision
from usage.revisions import GivenBack


@dataclass(frozen=True, slots=True)
class _Part:
    """What is given back together: of one revision, or of all that one backfill made in a settlement."""

    reference: str
    reason: str
    calls: int
    components: Mapping[str, int]
    in_month_micros: int


def give(account: Account, settlement: Settlement, given: Sequence[GivenBack], *, now: datetime) -> None:
    """Grant what the settlement's revisions give back, and let it pay for what the month has accrued.

    Under the account's lock, in the settlement's transaction.
    """
    wanted: list[tuple[Grant, Mapping[str, int]]] = []
    for part in _parts(given, settlement):
        grant = credits.grant(
            organization=account.organization,
            kind=Grant.Kind.CORRECTION,
            micros=sum(part.components.values()),
            reference=part.reference,
            now=now,
            reason=part.reason,
        )
        GiveBack.objects.create(
            organization_id=account.organization_id,
            settlement=settlement,
            grant=grant,
            calls=part.calls,
            in_month_micros=part.in_month_micros,
        )
        wanted.append((grant, part.components))
    _set_off(account, settlement, wanted, now=now)


def reference_of(call_id: str, revision: int) -> str:
    """Return what names the grant of one revision."""
    return f"correction:{call_id}:{revision}"


def reason_of(call_id: str, revision: int, reason: str) -> str:
    """Return what the customer reads of one revision: the call, both revisions and the reason."""
    said = f"Call {call_id}, revision {revision} instead of {revision - 1}"
    return f"{said}: {reason}" if reason else said


def _parts(given: Iterable[GivenBack], settlement: Settlement) -> list[_Part]:
    parts: list[_Part] = []
    backfills: dict[int | None, list[GivenBack]] = {}
    for each in given:
        if each.origin == CallRevision.Origin.BACKFILL:
            backfills.setdefault(each.author_id, []).append(each)
            continue
        reason = reason_of(each.call_id, each.revision, each.reason)
        parts.append(_Part(reference_of(each.call_id, each.revision), reason, 1, each.components, each.in_month_micros))
    for number, calls in backfills.items():
        components: Counter[str] = Counter()
        for each in calls:
            components.update(each.components)
        reference = f"backfill:{number}:{settlement.first_sequence}"
        noun = "call" if len(calls) == 1 else "calls"
        reason = f"{len(calls):,} {noun} priced anew: {calls[0].reason}"
        in_month_micros = sum(each.in_month_micros for each in calls)
        parts.append(_Part(reference, reason, len(calls), components, in_month_micros))
    return parts


def _set_off(
    account: Account, settlement: Settlement, wanted: list[tuple[Grant, Mapping[str, int]]], *, now: datetime
) -> None:
    """Let the grants pay what the month has accrued and no invoice bills: first their own components, then the others.

    What an interim invoice bills is asked for already. Were that paid twice while its card is declined, what a month
    comes to would depend on when a payment succeeds.
    """
    accrued = Counter(totals.month(account.organization_id, settlement.month).accrued)
    uninvoiced = accrued.total() - periods.invoiced(account.organization_id, settlement.month)
    owed = min(uninvoiced, balances.balance(account, now=now).accrued_micros)
    paid: Counter[tuple[int, str]] = Counter()
    grants = {grant.pk: grant for grant, _ in wanted}
    for own_first in (True, False):
        for grant, components in wanted:
            for component in components if own_first else Billable.values:
                most = components[component] if own_first else grant.remaining_micros
                taken = min(most, accrued[component], owed)
                if taken > 0:
                    paid[grant.pk, component] += taken
                    grant.remaining_micros -= taken
                    accrued[component] -= taken
                    owed -= taken
    if paid:
        _post(account, settlement, grants, paid, now=now)


def _post(
    account: Account,
    settlement: Settlement,
    grants: Mapping[int, Grant],
    paid: Counter[tuple[int, str]],
    *,
    now: datetime,
) -> None:
    taken: Counter[int] = Counter()
    for (grant_id, _), micros in paid.items():
        taken[grant_id] += micros
    sides = [journal.Side(journal.Book.CREDIT, -micros, grants[grant_id]) for grant_id, micros in taken.items()]
    sides.append(journal.Side(journal.Book.RECEIVABLE, paid.total()))
    posted = journal.post(
        account,
        kind=Transaction.Kind.SET_OFF,
        reference=f"set_off:{settlement.first_sequence}-{settlement.last_sequence}",
        sides=sides,
        now=now,
    )
    for grant_id in taken:
        grants[grant_id].save(update_fields=["remaining_micros"])
    SetOff.objects.bulk_create(
        SetOff(
            organization_id=account.organization_id,
            transaction=posted,
            grant=grants[grant_id],
            month=settlement.month,
            component=component,
            micros=micros,
        )
        for (grant_id, component), micros in sorted(paid.items())
    )
