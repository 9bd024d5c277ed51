"""What a month came to, per component, from the settlements."""

from dataclasses import dataclass
from datetime import date

from django.db.models import Sum

from billing_portal.ledger.models import Burn, SettlementLine


@dataclass(frozen=True, slots=True)
class MonthTotals:
    """Micros of one organization's month. For every component, gross = burnt of all kinds + accrued."""

    gross: dict[str, int]
    burnt: dict[tuple[str, str], int]  # by (grant kind, component)
    accrued: dict[str, int]

    @property
    def gross_micros(self) -> int:
        return sum(self.gross.values())

    @property
    def burnt_micros(self) -> int:
        return sum(self.burnt.values())

    @property
    def accrued_micros(self) -> int:
        return sum(self.accrued.values())


def month(organization_id: int, month: date) -> MonthTotals:
    """Return the totals of one billing month; components without usage are absent."""
    lines = SettlementLine.objects.filter(organization_id=organization_id, settlement__month=month)
    sums = lines.order_by("component").values_list("component").annotate(Sum("gross_micros"), Sum("accrued_micros"))
    burns = Burn.objects.filter(organization_id=organization_id, settlement__month=month)
    burnt = burns.order_by("grant__kind", "component").values_list("grant__kind", "component").annotate(Sum("micros"))
    rows = list(sums)
    return MonthTotals(
        gross={component: int(gross) for component, gross, _ in rows},
        burnt={(kind, component): int(micros) for kind, component, micros in burnt},
        accrued={component: int(accrued) for component, _, accrued in rows if accrued},
    )
