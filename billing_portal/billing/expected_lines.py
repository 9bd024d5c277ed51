"""The lines of an invoice beside those that it should have: what stands behind each, and what it should come to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from billing_portal.billing import credit_lines, debts, deductions, interims, minor_units, seats
from billing_portal.billing.models import InterimInvoice, Invoice, InvoiceLine, Purchase
from billing_portal.ledger import totals
from billing_portal.ledger.totals import MonthTotals
from usage import rollups
from usage.models import Billable
from usage.outcomes import billed as billed_outcomes
from usage.outcomes.billed import AtPrice


@dataclass(frozen=True, slots=True)
class LineReconciliation:
    """One line of the invoice beside what it should be. Quantities are micros, amounts minor units.

    `line` is None for a line that Stripe's invoice lacks; `calls` counts the calls that used the component, or the
    outcomes paid in money, whose `prices` say how the quantity comes about.
    """

    line: InvoiceLine | None
    kind: str
    label: str
    our_amount_minor: int
    component: str = ""
    grant_kind: str = ""
    calls: int = 0
    stripe_quantity: int | None = None
    our_quantity: int | None = None
    prices: Sequence[AtPrice] = ()

    @property
    def stripe_amount_minor(self) -> int:
        return self.line.amount_minor if self.line else 0

    @property
    def amount_difference_minor(self) -> int:
        return self.stripe_amount_minor - self.our_amount_minor

    @property
    def quantity_difference(self) -> int:
        if self.kind != InvoiceLine.Kind.USAGE:
            return 0
        return (self.stripe_quantity or 0) - (self.our_quantity or 0)

    @property
    def agrees(self) -> bool:
        return not self.amount_difference_minor and not self.quantity_difference

    @property
    def opens_calls(self) -> bool:
        """Say whether calls or outcomes stand behind the line one by one."""
        return self.kind in {InvoiceLine.Kind.USAGE, InvoiceLine.Kind.INTERIM}


def of(invoice: Invoice, interim: InterimInvoice | None) -> list[LineReconciliation]:
    """Return Stripe's lines in their order beside ours, then ours that Stripe's invoice lacks."""
    return list(_interim_lines(invoice, interim) if interim else _month_lines(invoice))


def name(component: str) -> str:
    """Return what people call a component, or a type of outcomes."""
    return str(Billable(component).label) if component in Billable.values else component


def _totals(invoice: Invoice) -> MonthTotals:
    if invoice.month is None:
        return MonthTotals(gross={}, burnt={}, accrued={})
    return totals.month(invoice.organization_id, invoice.month)


@dataclass(frozen=True, slots=True)
class _Behind:
    """What stands behind a month's lines: calls by component, outcomes by type at their prices."""

    calls: dict[str, int]
    prices: dict[str, list[AtPrice]]

    @classmethod
    def of(cls, invoice: Invoice) -> "_Behind":
        if invoice.month is None:
            return cls({}, {})
        calls = rollups.component_calls(invoice.organization_id, invoice.month)
        return cls(calls, billed_outcomes.at_prices(invoice.organization_id, invoice.month))

    def count(self, component: str) -> int:
        return self.calls.get(component, 0) + sum(each.outcomes for each in self.prices.get(component, ()))


def _month_lines(invoice: Invoice) -> Iterator[LineReconciliation]:
    """Yield Stripe's lines in their order beside ours, then ours that Stripe's invoice lacks."""
    behind = _Behind.of(invoice)
    usage = dict(_totals(invoice).gross)
    credit = {(due.grant_kind, due.component): due.amount_minor for due in credit_lines.due(invoice)}
    deducted = {due.component: due.amount_minor for due in deductions.due(invoice)}
    rest = {InvoiceLine.Kind.OTHER: _bought_minor(invoice), InvoiceLine.Kind.DEBT: debts.due_minor(invoice)}
    for line in invoice.lines.order_by("position", "id"):
        if line.kind == InvoiceLine.Kind.USAGE:
            yield _usage_line(line, line.component, usage.pop(line.component, 0), invoice.currency, behind)
        elif line.kind == InvoiceLine.Kind.CREDIT:
            amount = credit.pop((line.grant_kind, line.component), 0)
            yield _credit_line(line, line.grant_kind, line.component, amount, behind)
        elif line.kind == InvoiceLine.Kind.DEDUCTION:
            yield _deduction_line(line, line.component, deducted.pop(line.component, 0))
        else:
            yield _other_line(line, _take(rest.get(InvoiceLine.Kind(line.kind), []), line.amount_minor))
    for component, micros in usage.items():
        if micros:
            yield _usage_line(None, component, micros, invoice.currency, behind)
    for (grant_kind, component), amount in credit.items():
        if amount:
            yield _credit_line(None, grant_kind, component, amount, behind)
    for component, amount in deducted.items():
        yield _deduction_line(None, component, amount)
    yield from map(_missing_debt, rest[InvoiceLine.Kind.DEBT])


def _interim_lines(invoice: Invoice, interim: InterimInvoice) -> Iterator[LineReconciliation]:
    """Yield the lines of an interim invoice beside what the settlements it covers come to."""
    due = {line.component: line for line in interims.rederived(interim)}
    for line in invoice.lines.order_by("position", "id"):
        if line.kind == InvoiceLine.Kind.INTERIM:
            yield _interim_line(line, line.component, due.pop(line.component, None))
        else:
            yield _other_line(line, 0)
    for component, missing in due.items():
        if missing.amount_minor:
            yield _interim_line(None, component, missing)


def _interim_line(line: InvoiceLine | None, component: str, due: interims.Due | None) -> LineReconciliation:
    """Compare one line of an interim invoice. Its quantity is ours alone: accrued micros, after credit."""
    return LineReconciliation(
        line=line,
        kind=InvoiceLine.Kind.INTERIM,
        component=component,
        label=name(component),
        our_quantity=due.micros if due else 0,
        our_amount_minor=due.amount_minor if due else 0,
    )


def _deduction_line(line: InvoiceLine | None, component: str, amount_minor: int) -> LineReconciliation:
    return LineReconciliation(
        line=line,
        kind=InvoiceLine.Kind.DEDUCTION,
        component=component,
        label=deductions.label(component),
        our_amount_minor=-amount_minor,
    )


def _usage_line(
    line: InvoiceLine | None, component: str, micros: int, currency: str, behind: _Behind
) -> LineReconciliation:
    return LineReconciliation(
        line=line,
        kind=InvoiceLine.Kind.USAGE,
        component=component,
        label=name(component),
        calls=behind.count(component),
        stripe_quantity=line.quantity if line else None,
        our_quantity=micros,
        our_amount_minor=minor_units.from_micros(micros, currency),
        prices=behind.prices.get(component, ()),
    )


def _credit_line(
    line: InvoiceLine | None, grant_kind: str, component: str, amount_minor: int, behind: _Behind
) -> LineReconciliation:
    return LineReconciliation(
        line=line,
        kind=InvoiceLine.Kind.CREDIT,
        component=component,
        grant_kind=grant_kind,
        label=credit_lines.label(grant_kind, component),
        calls=behind.count(component),
        stripe_quantity=line.quantity if line else None,
        our_amount_minor=-amount_minor,
    )


def _bought_minor(invoice: Invoice) -> list[int]:
    """Return what the invoice should bill for what was bought ahead, line by line, in minor units."""
    purchase = Purchase.objects.filter(invoice=invoice).first()
    bought = [minor_units.from_micros(purchase.amount_micros, purchase.currency)] if purchase else []
    return bought + seats.due_minor(invoice)


def _take(due: list[int], amount_minor: int) -> int:
    """Take from what is due the amount that a line has; where none is the same, the first; 0 where nothing is left."""
    if not due:
        return 0
    return due.pop(due.index(amount_minor) if amount_minor in due else 0)


def _other_line(line: InvoiceLine, our_amount_minor: int) -> LineReconciliation:
    return LineReconciliation(
        line=line,
        kind=line.kind,
        component=line.component,
        label=line.description,
        stripe_quantity=line.quantity,
        our_amount_minor=our_amount_minor,
    )


def _missing_debt(amount_minor: int) -> LineReconciliation:
    kind = InvoiceLine.Kind.DEBT
    return LineReconciliation(line=None, kind=kind, label=str(kind.label), our_amount_minor=amount_minor)
