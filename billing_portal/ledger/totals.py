"""What a month came to, per component, from the settlements."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date

from django.db.models import Q, Sum

from billing_portal.ledger import discounts
from billing_portal.ledger.models import DISCOUNT, Burn, Grant, SetOff, SettlementLine, WriteOffLine


@dataclass(frozen=True, slots=True)
class Position:
    """A place in an organization's books: the settlement and the transaction that came last."""

    sequence: int
    transaction_id: int


@dataclass(frozen=True, slots=True)
class MonthTotals:
    """Micros of one organization's month. For every component, gross = burnt of all kinds + accrued.

    What was forgiven before the month closed counts as burnt goodwill, and what credit paid of it afterwards as burnt:
    it comes off the invoice like any credit. So do discounts, as a kind of their own.
    """

    gross: dict[str, int]
    burnt: dict[tuple[str, str], int]  # by (grant kind, component)
    accrued: dict[str, int]
    forgiven: dict[str, int] = field(default_factory=dict)  # how much of the burnt goodwill was forgiven

    @property
    def gross_micros(self) -> int:
        return sum(self.gross.values())

    @property
    def burnt_micros(self) -> int:
        return sum(self.burnt.values())

    @property
    def accrued_micros(self) -> int:
        return sum(self.accrued.values())


def month(organization_id: int, month: date, *, through: Position | None = None) -> MonthTotals:
    """Return the totals of one billing month; components without usage are absent.

    `through` leaves out what came later: totals as they stood then, at any time.
    """
    settled = Q(organization_id=organization_id, settlement__month=month)
    if through is not None:
        settled &= Q(settlement__last_sequence__lte=through.sequence)
    lines = SettlementLine.objects.filter(settled)
    sums = lines.order_by("component").values_list("component").annotate(Sum("gross_micros"), Sum("accrued_micros"))
    burns = Burn.objects.filter(settled)
    burnt = burns.order_by("grant__kind", "component").values_list("grant__kind", "component").annotate(Sum("micros"))
    rows = list(sums)
    forgiven = _forgiven(organization_id, month, through)
    by_kind = Counter({(kind, component): int(micros) for kind, component, micros in burnt})
    by_kind.update({(str(Grant.Kind.GOODWILL), component): micros for component, micros in forgiven.items()})
    accrued = Counter({component: int(micros) for component, _, micros in rows})
    accrued.subtract(forgiven)
    for (kind, component), micros in _set_off(organization_id, month, through).items():
        by_kind[kind, component] += micros
        accrued[component] -= micros
    seen = through.transaction_id if through else None
    for (_, component), micros in discounts.taken(organization_id, month, through=seen).items():
        by_kind[DISCOUNT, component] += micros
        accrued[component] -= micros
    return MonthTotals(
        gross={component: int(gross) for component, gross, _ in rows},
        burnt=dict(by_kind),
        accrued={component: micros for component, micros in accrued.items() if micros},
        forgiven=forgiven,
    )


def _set_off(organization_id: int, month: date, through: Position | None) -> dict[tuple[str, str], int]:
    """Return what credit paid of the month once it had accrued, by kind and component."""
    paid = SetOff.objects.filter(organization_id=organization_id, month=month)
    if through is not None:
        paid = paid.filter(transaction_id__lte=through.transaction_id)
    sums = paid.order_by("grant__kind", "component").values_list("grant__kind", "component").annotate(Sum("micros"))
    return {(kind, component): int(micros) for kind, component, micros in sums}


def _forgiven(organization_id: int, month: date, through: Position | None) -> dict[str, int]:
    """Return what was forgiven of the month before it closed, by component, without what was put back."""
    lines = WriteOffLine.objects.filter(organization_id=organization_id, write_off__month=month)
    put_back = Q(write_off__transaction__reversed_by__isnull=False)
    if through is not None:
        lines = lines.filter(write_off__transaction_id__lte=through.transaction_id)
        put_back = Q(write_off__transaction__reversed_by__lte=through.transaction_id)
    standing = lines.exclude(put_back).order_by("component")
    return {component: int(micros) for component, micros in standing.values_list("component").annotate(Sum("micros"))}
