"""What an invoice's amount due is for: by agent, model, day or a key of metadata, adding up to the minor unit.

Lines come to a net a component: usage, less credit and what was invoiced before. Discount and tax are spread over the
components as their nets are, and each component's amount over its calls (`usage.shares`), all by largest remainder. So
every grouping has the same sum. What no call bears (outcomes, other lines, a balance of earlier invoices) is a row of
its own. A final invoice never changes, so what was once computed is kept.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime

from django.db import transaction

from billing_portal.billing import minor_units
from billing_portal.billing.models import AmountDue, Invoice
from usage import metadata_usage, rollups, shares
from usage.models import Billable
from usage.shares import Grouping

# Up to so many calls a page may wait for it.
AT_ONCE = 20_000
MOST_ROWS = 500
_FINAL = {Invoice.State.OPEN, Invoice.State.PAID, Invoice.State.UNCOLLECTIBLE}


class NotFinal(Exception):
    """The invoice bills no month, or is a draft or void: nothing is due on it yet, or any more."""

    def __init__(self, invoice: Invoice) -> None:
        super().__init__(f"{invoice} has no final amount of a month's calls.")
        self.invoice = invoice


class Unspread(Exception):
    """The parts do not add up to the amount due: the calls are not those that the lines bill."""

    def __init__(self, invoice: Invoice, found_minor: int) -> None:
        super().__init__(f"{invoice}: the parts come to {found_minor}, not {invoice.amount_due_minor}.")
        self.invoice = invoice
        self.found_minor = found_minor


@dataclass(frozen=True, slots=True)
class Row:
    """One value's part of the amount due. `kind` is `calls`, or what else it is for: then no usage is beside it."""

    label: str
    kind: str
    calls: int
    usage_micros: int
    due_micros: int
    due_minor: int

    @property
    def between_micros(self) -> int:
        """Credit, discount and tax: what lies between the usage and what is due for it."""
        return self.due_micros - self.usage_micros


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is due for something else than calls."""

    label: str
    kind: str
    micros: int


def known(invoice: Invoice, grouping: Grouping, *, key: str = "") -> list[Row] | None:
    """Return the rows, if they were computed already."""
    kept = AmountDue.objects.filter(
        organization_id=invoice.organization_id, invoice=invoice, grouping=grouping, key=key
    ).first()
    return [Row(**row) for row in kept.rows] if kept else None


def is_final(invoice: Invoice) -> bool:
    """Say whether it bills a month and will not change."""
    return invoice.month is not None and invoice.state in _FINAL


def is_small(invoice: Invoice) -> bool:
    """Say whether the invoice has so few calls that somebody may wait for them."""
    return _calls(invoice) <= AT_ONCE


def compute(invoice: Invoice, grouping: Grouping, *, key: str = "", now: datetime) -> list[Row]:
    """Return the rows, the most first, and keep them; their `due_minor` add up to the amount due. Raises NotFinal."""
    rows = known(invoice, grouping, key=key)
    if rows is not None:
        return rows
    targets, rest = split(invoice)
    assert invoice.month is not None, "split saw to it"
    found = shares.by(invoice.organization_id, invoice.month, targets, grouping, key=key)
    parts = [Row(share.value, "calls", share.calls, share.usage_micros, share.due_micros, 0) for share in found]
    parts = _folded(parts)
    parts += [Row(each.label, each.kind, 0, 0, each.micros, 0) for each in rest if each.micros]
    rows = in_minor_units(parts, invoice.currency)
    if (found_minor := sum(row.due_minor for row in rows)) != invoice.amount_due_minor:
        raise Unspread(invoice, found_minor)
    with transaction.atomic():
        AmountDue.objects.get_or_create(
            organization_id=invoice.organization_id,
            invoice=invoice,
            grouping=grouping,
            key=key,
            defaults={"rows": [asdict(row) for row in rows], "computed_at": now},
        )
    return rows


def by_call(invoice: Invoice) -> Iterator[tuple[int, str, str, int, int]]:
    """Yield number, call id, start, usage and amount due of every call, in micros. Raises NotFinal."""
    targets, _ = split(invoice)
    assert invoice.month is not None, "split saw to it"
    yield from shares.by_call(invoice.organization_id, invoice.month, targets)


def split(invoice: Invoice) -> tuple[dict[str, int], list[_Rest]]:
    """Return what the calls of each component bear, in micros, and what is due for anything else. Raises NotFinal.

    Together they are the amount due.
    """
    if not is_final(invoice):
        raise NotFinal(invoice)
    assert invoice.month is not None, "a final one of calls has it"
    nets: Counter[str] = Counter()
    for line in invoice.lines.order_by("position", "id"):
        nets[line.component] += line.amount_minor
    totals = _with_tax(nets, invoice.total_minor)
    borne = shares.components_borne(invoice.organization_id, invoice.month)
    micros = {name: minor_units.to_micros(minor, invoice.currency) for name, minor in totals.items()}
    rest = [
        _Rest(str(Billable(name).label) if name else "Other lines", "outcome" if name else "other", value)
        for name, value in micros.items()
        if name not in borne
    ]
    balance = invoice.amount_due_minor - invoice.total_minor
    rest.append(_Rest("Balance of other invoices", "balance", minor_units.to_micros(balance, invoice.currency)))
    return {name: value for name, value in micros.items() if name in borne}, rest


def in_minor_units(rows: list[Row], currency: str) -> list[Row]:
    """Return the rows with their minor units: rounded by largest remainder, so that they add up as the micros do.

    Pure. The sum of the micros is whole in minor units.
    """
    unit = minor_units.micros_per_unit(currency)
    floors = [row.due_micros // unit for row in rows]
    left = sum(row.due_micros for row in rows) // unit - sum(floors)
    by_remainder = sorted(range(len(rows)), key=lambda place: (-(rows[place].due_micros % unit), place))
    for place in by_remainder[:left]:
        floors[place] += 1
    named = zip(rows, floors, strict=True)
    return [Row(row.label, row.kind, row.calls, row.usage_micros, row.due_micros, minor) for row, minor in named]


def keys_of(invoice: Invoice) -> list[str]:
    """Return the keys of metadata that the organization has chosen to be counted."""
    return [each.key for each in metadata_usage.keys_of(invoice.organization_id)]


def _with_tax(nets: Counter[str], total_minor: int) -> dict[str, int]:
    """Return what each component comes to with its part of discount and tax: their sum is the total."""
    names = sorted(nets)
    between = total_minor - sum(nets.values())
    weights = [max(0, nets[name]) for name in names]
    if not between:
        return dict(nets)
    if not any(weights):  # nothing is left of any line: what is due all the same is an "other line"
        return {**nets, "": nets[""] + between}
    parts = shares.spread(between, weights)
    return {name: nets[name] + part for name, part in zip(names, parts, strict=True)}


def _folded(rows: list[Row]) -> list[Row]:
    """Return the first rows, and all others as one."""
    if len(rows) <= MOST_ROWS:
        return rows
    others = rows[MOST_ROWS - 1 :]
    sums = (sum(row.calls for row in others), sum(row.usage_micros for row in others))
    label = f"{len(others):,} others"
    return [*rows[: MOST_ROWS - 1], Row(label, "others", *sums, sum(row.due_micros for row in others), 0)]


def _calls(invoice: Invoice) -> int:
    if invoice.month is None:
        return 0
    return max(rollups.component_calls(invoice.organization_id, invoice.month).values(), default=0)
