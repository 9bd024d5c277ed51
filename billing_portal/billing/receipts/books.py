"""The ledger of a receipt: the grants there were, and what moved them, transaction by transaction.

It begins with the first settlement of the month and ends where the scope does. What other months burnt of the same
grants in between stands there too, so the order in which credit was burnt can be followed without a gap.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q, QuerySet, Sum

from billing_portal.billing.receipts import canonical
from billing_portal.billing.receipts.scopes import Scope
from billing_portal.ledger.models import (
    DiscountPosting,
    Entry,
    GiveBack,
    Grant,
    SetOff,
    Settlement,
    Transaction,
    WriteOff,
)

Kind = Transaction.Kind
_CHUNK = 1_000


@dataclass
class _Behind:
    """What stands behind some transactions: by their ids, settlements by their references."""

    credit: dict[int, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    settlements: dict[str, Settlement] = field(default_factory=dict)
    give_backs: dict[int, list[list[Any]]] = field(default_factory=lambda: defaultdict(list))
    set_offs: dict[int, list[SetOff]] = field(default_factory=lambda: defaultdict(list))
    write_offs: dict[int, WriteOff] = field(default_factory=dict)
    discounts: dict[int, DiscountPosting] = field(default_factory=dict)


class Books:
    """Writes the grants and the ledger of a scope; afterwards `lines_through` says how far an interim invoice saw."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.lines_through = {each.pk: 0 for each in scope.interims()}
        self._seen = [(each.last_transaction_id, each.pk) for each in scope.interims()]
        self._first = self._first_transaction()

    def grant_lines(self) -> Iterator[bytes]:
        """Yield the line of every grant that had something left, or was given, in the order of their making."""
        if self._first is None:
            return
        entries = Entry.objects.filter(organization_id=self.scope.organization_id, book=Entry.Book.CREDIT)
        before = entries.filter(transaction_id__lt=self._first).order_by("grant_id").values_list("grant_id")
        opening = {grant: int(micros) for grant, micros in before.annotate(Sum("micros")) if micros}
        moved = self._transactions().filter(kind=Kind.GRANT).values("id")
        given = entries.filter(transaction_id__in=moved).values_list("grant_id", flat=True)
        grants = Grant.objects.filter(organization_id=self.scope.organization_id, pk__in={*opening, *given})
        for grant in grants.order_by("id"):
            yield canonical.encode(_grant(grant, opening.get(grant.pk, 0)))

    def ledger_lines(self) -> Iterator[bytes]:
        """Yield the line of every transaction that moves credit, or what the month comes to, in their order."""
        written = 0
        transactions = self._transactions().select_related("reverses").order_by("id")
        for chunk in _chunks(transactions):
            behind = self._behind(chunk)
            for each in chunk:
                line = self._line(each, behind)
                if line is not None:
                    written += 1
                    for last, interim in self._seen:
                        if each.pk <= last:
                            self.lines_through[interim] = written
                    yield canonical.encode(line)

    def _first_transaction(self) -> int | None:
        """Return the transaction of the month's first settlement; None of a month without any."""
        organization_id = self.scope.organization_id
        settlement = Settlement.objects.filter(organization_id=organization_id, month=self.scope.month)
        first = settlement.order_by("first_sequence").first()
        if first is None:
            return None
        known = Transaction.objects.filter(organization_id=organization_id, reference=reference_of(first))
        return known.values_list("id", flat=True).first()

    def _transactions(self) -> QuerySet[Transaction]:
        of_organization = Transaction.objects.filter(organization_id=self.scope.organization_id)
        within = of_organization.filter(id__gte=self._first or 0, id__lte=self.scope.through.transaction_id)
        return within.exclude(kind=Kind.COLLECT) if self._first is not None else of_organization.none()

    def _behind(self, chunk: Sequence[Transaction]) -> _Behind:
        ids = [each.pk for each in chunk]
        mine = Q(organization_id=self.scope.organization_id)
        behind = _Behind()
        entries = Entry.objects.filter(mine, transaction_id__in=ids, book=Entry.Book.CREDIT).select_related("grant")
        for entry in entries.order_by("id"):
            assert entry.grant is not None, "an entry of credit names its grant"
            of_transaction = behind.credit[entry.transaction_id]
            of_transaction[entry.grant.reference] = of_transaction.get(entry.grant.reference, 0) + entry.micros
        firsts = {first_sequence(each.reference) for each in chunk if each.kind == Kind.SETTLE}
        settlements = Settlement.objects.filter(mine, first_sequence__in=firsts)
        for settlement in settlements.prefetch_related("lines", "burns__grant"):
            behind.settlements[reference_of(settlement)] = settlement
        given = GiveBack.objects.filter(mine, settlement__in=list(behind.settlements.values()))
        for each in given.select_related("grant").order_by("id"):
            behind.give_backs[each.settlement_id].append([each.grant.reference, each.calls])
        for set_off in SetOff.objects.filter(mine, transaction_id__in=ids).select_related("grant").order_by("id"):
            behind.set_offs[set_off.transaction_id].append(set_off)
        concerned = {*ids, *(each.reverses_id for each in chunk if each.reverses_id)}
        for write_off in WriteOff.objects.filter(mine, transaction_id__in=concerned).prefetch_related("lines"):
            behind.write_offs[write_off.transaction_id] = write_off
        for posting in DiscountPosting.objects.filter(mine, transaction_id__in=ids).prefetch_related("lines"):
            behind.discounts[posting.transaction_id] = posting
        return behind

    def _line(self, transaction: Transaction, behind: _Behind) -> dict[str, Any] | None:
        """Return what a transaction says; None where it concerns neither credit nor the month."""
        line: dict[str, Any] = {
            "at": canonical.instant(transaction.occurred_at),
            "credit": behind.credit.get(transaction.pk, {}),
            "kind": transaction.kind,
            "reference": transaction.reference,
        }
        if transaction.kind == Kind.SETTLE:
            return line | self._settled(behind.settlements[transaction.reference], behind)
        if transaction.pk in behind.set_offs:
            return line | _set_off(behind.set_offs[transaction.pk])
        if transaction.kind == Kind.DISCOUNT:
            posting = behind.discounts[transaction.pk]
            return line | _discounted(posting) if posting.month == self.scope.month else None
        forgiven = behind.write_offs.get(transaction.reverses_id or transaction.pk)
        if forgiven is not None and forgiven.month == self.scope.month and forgiven.lines.all():
            line |= _forgiven(forgiven)
            if transaction.reverses is not None:
                line["reverses"] = transaction.reverses.reference
            return line
        return line if line["credit"] else None

    def _settled(self, settlement: Settlement, behind: _Behind) -> dict[str, Any]:
        """Return what a settlement decided; of another month no more than its numbers."""
        numbers = {
            "first": settlement.first_sequence,
            "last": settlement.last_sequence,
            "month": settlement.month.isoformat(),
            "source": settlement.source,
        }
        if settlement.month != self.scope.month:
            return numbers
        lines = settlement.lines.all()
        burns = sorted(settlement.burns.all(), key=lambda burn: burn.pk)
        return numbers | {
            "accrued": {line.component: line.accrued_micros for line in lines if line.accrued_micros},
            "burns": [[burn.grant.reference, burn.component, burn.micros] for burn in burns],
            "give_backs": behind.give_backs.get(settlement.pk, []),
            "gross": {line.component: line.gross_micros for line in lines if line.gross_micros},
        }


def reference_of(settlement: Settlement) -> str:
    """Return the reference of a settlement's transaction."""
    return f"settle:{settlement.first_sequence}-{settlement.last_sequence}"


def first_sequence(reference: str) -> int:
    """Return the first number of the settlement whose transaction has this reference."""
    return int(reference.removeprefix("settle:").partition("-")[0])


def _grant(grant: Grant, opening_micros: int) -> dict[str, Any]:
    return {
        "amount_micros": grant.amount_micros,
        "created_at": canonical.instant(grant.created_at),
        "currency": grant.currency,
        "expires_at": canonical.instant_or_none(grant.expires_at),
        "grant": grant.reference,
        "kind": grant.kind,
        "opening_micros": opening_micros,
        "priority": grant.priority,
        "reason": grant.reason,
    }


def _set_off(parts: Collection[SetOff]) -> dict[str, Any]:
    months = {each.month for each in parts}
    assert len(months) == 1, "a transaction sets off one month"
    return {
        "month": months.pop().isoformat(),
        "parts": [[each.grant.reference, each.component, each.micros] for each in parts],
    }


def _forgiven(write_off: WriteOff) -> dict[str, Any]:
    lines = sorted(write_off.lines.all(), key=lambda line: line.component)
    return {
        "month": write_off.month.isoformat(),
        "parts": [[line.component, line.micros] for line in lines],
    }


def _discounted(posting: DiscountPosting) -> dict[str, Any]:
    lines = sorted(posting.lines.all(), key=lambda line: (line.discount, line.component))
    return {
        "month": posting.month.isoformat(),
        "parts": [[line.discount, line.component, line.micros] for line in lines],
        "terms": posting.terms,
    }


def _chunks(transactions: QuerySet[Transaction]) -> Iterator[list[Transaction]]:
    chunk: list[Transaction] = []
    for each in transactions.iterator(chunk_size=_CHUNK):
        chunk.append(each)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
