"""What discounts took off single calls, outcomes and lines, so that whoever gets them back gets what they cost.

Each component's discount of a month is spread over all that it bears, by largest remainder (`usage.shares`), as the
amount due is: together the parts are what the invoice took off, to the micro. In a month that is open, it is what
discounts would take off by now.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from django.db.models import Sum

from billing_portal.billing import discounts, minor_units
from billing_portal.billing.models import InvoiceLine
from billing_portal.ledger import discounts as ledger_discounts
from billing_portal.ledger import periods, totals
from billing_portal.ledger.models import DISCOUNT, DiscountPosting
from usage import calls, charges, money, shares
from usage.models import Call
from usage.models.outcomes import OutcomeCharge


def by_component(organization_id: int, month: date, currency: str) -> dict[str, int]:
    """Return the micros that discounts take off a month, by component; none is zero."""
    if month in periods.open_months(organization_id):
        terms = discounts.terms_of(organization_id, month)
        taken = discounts.compute(totals.month(organization_id, month), terms, currency) if terms else {}
    else:
        taken = ledger_discounts.taken(organization_id, month)
    found: Counter[str] = Counter()
    for (_, component), micros in taken.items():
        found[component] += micros
    return dict(+found)


def of_call(call: Call, currency: str) -> int:
    """Return the micros that discounts took off all revisions of a call, in whichever months they were billed."""
    charged = [charges.of(each) for each in calls.all_revisions(call)]
    months = {each.billed_month for each in charged if each is not None and each.billed_month is not None}
    return of_calls(call.organization_id, [call.call_id], months, currency)[call.call_id]


def of_calls(organization_id: int, call_ids: Sequence[str], months: Iterable[date], currency: str) -> Counter[str]:
    """Return the micros that discounts took off calls in these months, by call id."""
    found: Counter[str] = Counter()
    for month in sorted(months):
        if targets := by_component(organization_id, month, currency):
            found.update(shares.of_calls(organization_id, month, targets, call_ids))
    return found


def of_outcomes(settled: Iterable[OutcomeCharge], currency: str) -> int:
    """Return the micros that discounts took off settled charges of one organization's outcomes."""
    by_month: dict[tuple[int, date], list[int]] = defaultdict(list)
    for each in settled:
        assert each.billed_month is not None, "a settled charge has its month"
        by_month[each.organization_id, each.billed_month].append(each.pk)
    micros = 0
    for (organization_id, month), ids in by_month.items():
        if targets := by_component(organization_id, month, currency):
            micros += sum(shares.of_outcomes(organization_id, month, targets, ids).values())
    return micros


def of_line(line: InvoiceLine) -> int:
    """Return the micros that discounts took off a line of usage, as lines of the same invoice: whole minor units."""
    lines = InvoiceLine.objects.filter(organization_id=line.organization_id, invoice_id=line.invoice_id)
    taken = lines.filter(kind=InvoiceLine.Kind.CREDIT, grant_kind=DISCOUNT, component=line.component)
    minor = int(taken.aggregate(sum=Sum("amount_minor"))["sum"] or 0)
    return minor_units.to_micros(-minor, line.currency) if line.kind == InvoiceLine.Kind.USAGE else 0


def months_since(organization_id: int, day: date) -> list[date]:
    """Return the months from that of a day on in which discounts took something off, or may."""
    since = day.replace(day=1)
    posted = DiscountPosting.objects.filter(organization_id=organization_id, month__gte=since)
    lowered = set(posted.order_by("month").values_list("month", flat=True).distinct())
    still_open = {month for month in periods.open_months(organization_id) if month >= since}
    return sorted(lowered | {month for month in still_open if discounts.in_force(organization_id, month)})


def left_of(at_stake: Mapping[str, tuple[int, int]], taken: Mapping[str, int]) -> int:
    """Return what is left of (price, micros at stake) by call, where discounts took something off each. Pure."""
    left = 0
    for call_id, (price, micros) in at_stake.items():
        off = min(price, taken.get(call_id, 0))
        left += money.round_half_up(micros * (price - off), price) if off else micros
    return left


def of_months(organization_id: int, months: Iterable[date], micros: int, currency: str) -> int:
    """Return the part of `micros` that discounts took, where they took as much of everything in these months."""
    gross = taken = 0
    for month in months:
        gross += totals.month(organization_id, month).gross_micros
        taken += sum(by_component(organization_id, month, currency).values())
    return money.round_half_up(micros * taken, gross) if gross else 0
