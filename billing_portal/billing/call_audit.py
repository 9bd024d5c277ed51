"""The month's calls, one by one: rated anew from the facts, counted without a gap, summed up as settled.

Streams the charges of one organization and month in the order of their sequence, beside the settlements that say which
sequences there must be. Memory does not grow with the number of calls; of more than a hundred
differences the rest is counted.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from django.db import connection
from django.db.models import Sum, Window
from django.db.models.functions import Lag

from billing_portal.ledger.models import Account, Period, Settlement
from usage import prices, rating
from usage.models import Call, Charge, Component, DailyUsage
from usage.snapshots import Snapshot

NAMED = 100
_CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class Difference:
    """Two things that should be equal and are not; `ours` is what should be.

    Amounts of an invoice are minor units, everything else micros.
    """

    level: str
    subject: str
    ours: int | None
    theirs: int | None
    cause: str

    def __str__(self) -> str:
        return f"{self.level}: {self.subject}: {_number(self.ours)} against {_number(self.theirs)}. {self.cause}"


def _number(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"


def audit(organization_id: int, month: date) -> Iterator[Difference]:
    """Yield every difference between the facts of a month's calls, their charges, the settlements and the rollups.

    Names the first hundred and counts the rest.
    """
    named = 0
    more = 0
    for difference in _audit(organization_id, month):
        if named < NAMED:
            named += 1
            yield difference
        else:
            more += 1
    if more:
        yield Difference("calls", "further differences", 0, more, "Only the first hundred are named.")


def sequence_gaps(organization_id: int) -> Iterator[Difference]:
    """Yield where an organization's settlements do not number its charges from 1 on without a gap."""
    settlements = Settlement.objects.filter(organization_id=organization_id).order_by("first_sequence")
    before = Window(Lag("last_sequence", default=0), order_by="first_sequence")
    for settlement in settlements.annotate(expected=before + 1).values("first_sequence", "expected").iterator():
        if settlement["first_sequence"] != settlement["expected"]:
            subject = f"settlement from charge {settlement['first_sequence']}"
            cause = "The settlement before it ends elsewhere."
            yield Difference("sequence", subject, settlement["expected"], settlement["first_sequence"], cause)
    last = settlements.order_by("-last_sequence").values_list("last_sequence", flat=True).first() or 0
    counted = (
        Account.objects.filter(organization_id=organization_id).values_list("last_sequence", flat=True).first() or 0
    )
    if last != counted:
        yield Difference("sequence", "last charge settled", counted, last, "The last settlement ends elsewhere.")


def calls_by_component(organization_id: int, month: date) -> dict[str, int]:
    """Return how many calls used each component in a month; a call with two products of one counts once."""
    with connection.cursor() as cursor:
        cursor.execute(_CALLS_BY_COMPONENT, [organization_id, month])
        return dict(cursor.fetchall())


_CALLS_BY_COMPONENT = """
SELECT component, count(*)
FROM usage_charge CROSS JOIN LATERAL (
    SELECT DISTINCT rate.component
    FROM unnest(rate_ids) AS used (id) JOIN usage_pricerate AS rate ON rate.id = used.id
) AS components
WHERE organization_id = %s AND billed_month = %s
GROUP BY component
"""


# ── One pass over the charges ─────────────────────────────────────────────────────────────────────────────────────────


class _Row(NamedTuple):
    """A charge and the facts it was rated from."""

    sequence: int
    call_id: str
    duration_ms: int
    products: list[str]
    llm_tokens: int
    llm_requests: int
    price_version_id: int
    rate_ids: list[int]
    quantities: list[int]
    line_micros: list[int]
    amount_micros: int


def _audit(organization_id: int, month: date) -> Iterator[Difference]:
    charged: Counter[tuple[str, str]] = Counter()
    snapshots = _snapshots()
    rows = _rows(organization_id, month)
    row = next(rows, None)
    for settlement in _settlements(organization_id, month):
        expected = settlement.first_sequence
        by_rate: Counter[int] = Counter()
        while row is not None and row.sequence <= settlement.last_sequence:
            if row.sequence != expected:
                yield from _missing(expected, row.sequence)
            yield from _rated_anew(row, snapshots)
            for rate_id, micros in zip(row.rate_ids, row.line_micros, strict=True):
                by_rate[rate_id] += micros
            expected = row.sequence + 1
            row = next(rows, None)
        yield from _missing(expected, settlement.last_sequence + 1)
        by_product = _by_product(by_rate)
        charged.update(by_product)
        yield from _settled(settlement, by_product)
    while row is not None:
        subject = f"call {row.call_id}, charge {row.sequence}"
        yield Difference("sequence", subject, None, row.amount_micros, "No settlement.")
        row = next(rows, None)
    yield from _rolled_up(organization_id, month, charged)
    yield from _uncharged(organization_id, month)


def _by_product(by_rate: Counter[int]) -> Counter[tuple[str, str]]:
    """Return micros by (component, product) for those by rate."""
    sums: Counter[tuple[str, str]] = Counter()
    for rate_id, ref in prices.rate_refs(by_rate.keys()).items():
        sums[ref.component, ref.product] += by_rate[rate_id]
    return sums


def _rows(organization_id: int, month: date) -> Iterator[_Row]:
    charges = Charge.objects.filter(organization_id=organization_id, billed_month=month).order_by("sequence")
    facts = ("call_id", "duration_ms", "products", "llm_tokens", "llm_requests")
    columns = charges.values_list(
        "sequence",
        *(f"call__{name}" for name in facts),
        "price_version_id",
        "rate_ids",
        "quantities",
        "line_micros",
        "amount_micros",
    )
    return map(_Row._make, columns.iterator(chunk_size=_CHUNK))


def _settlements(organization_id: int, month: date) -> Iterator[Settlement]:
    settlements = Settlement.objects.filter(organization_id=organization_id, month=month).order_by("first_sequence")
    return settlements.prefetch_related("lines").iterator(chunk_size=_CHUNK)


def _missing(expected: int, reached: int) -> Iterator[Difference]:
    """Name the sequence numbers from `expected` to before `reached`: their charges, so their calls, are not there."""
    for sequence in range(expected, min(reached, expected + NAMED)):
        yield Difference("sequence", f"charge {sequence}", sequence, None, "The charge and its call are missing.")


def _snapshots() -> dict[int, Snapshot]:
    catalog = prices.current()
    versions = itertools.chain(*catalog.defaults.values(), *catalog.own.values())
    return {snapshot.version_id: snapshot for snapshot in versions}


def _rated_anew(row: _Row, snapshots: Mapping[int, Snapshot]) -> Iterator[Difference]:
    """Compare a charge with what its facts cost under its price version, line by line."""
    snapshot = snapshots.get(row.price_version_id)
    if snapshot is None:
        cause = f"Its price version {row.price_version_id} is in no book that is in force."
        yield Difference("charges", f"call {row.call_id}", None, row.amount_micros, cause)
        return
    facts = rating.CallFacts(row.duration_ms, tuple(row.products), row.llm_tokens, row.llm_requests)
    try:
        lines = rating.rate(facts, snapshot).lines
    except rating.ProductsUnpriced as error:
        yield Difference("charges", f"call {row.call_id}", None, row.amount_micros, str(error))
        return
    ours = [(line.rate_id, line.quantity, line.micros) for line in lines]
    theirs = list(zip(row.rate_ids, row.quantities, row.line_micros, strict=True))
    if ours != theirs:
        yield from _wrong_lines(row, lines)
    if sum(row.line_micros) != row.amount_micros:
        subject = f"call {row.call_id}, charge {row.sequence}"
        yield Difference("charges", subject, sum(row.line_micros), row.amount_micros, "The lines do not add up to it.")


def _wrong_lines(row: _Row, lines: Iterable[rating.Line]) -> Iterator[Difference]:
    ours = {line.rate_id: line for line in lines}
    theirs = {
        rate_id: (quantity, micros)
        for rate_id, quantity, micros in zip(row.rate_ids, row.quantities, row.line_micros, strict=True)
    }
    for rate_id in sorted(ours.keys() | theirs.keys()):
        line = ours.get(rate_id)
        quantity, micros = theirs.get(rate_id, (None, None))
        if line is None or (line.quantity, line.micros) != (quantity, micros):
            product = line.product if line else prices.rate_refs({rate_id})[rate_id].product
            subject = f"call {row.call_id}, charge {row.sequence}, {product}"
            cause = f"The call's facts come to {'another amount' if line else 'no such line'}; quantity {quantity}."
            yield Difference("charges", subject, line.micros if line else None, micros, cause)


def _settled(settlement: Settlement, by_product: Counter[tuple[str, str]]) -> Iterator[Difference]:
    """Compare the lines of a settlement with the charges in its range."""
    charged: Counter[str] = Counter()
    for (component, _), micros in by_product.items():
        charged[component] += micros
    settled = {line.component: line.gross_micros for line in settlement.lines.all()}
    for component in sorted(settled.keys() | charged.keys()):
        if settled.get(component, 0) != charged[component]:
            subject = f"charges {settlement.first_sequence}–{settlement.last_sequence}, {Component(component).label}"
            cause = "The settlement holds another sum than its charges."
            yield Difference("settlements", subject, charged[component], settled.get(component, 0), cause)


def _rolled_up(organization_id: int, month: date, charged: Counter[tuple[str, str]]) -> Iterator[Difference]:
    """Compare the rollups of a month with its charges, by product."""
    rows = DailyUsage.objects.filter(organization_id=organization_id, billed_month=month)
    sums = rows.order_by("component", "product").values_list("component", "product").annotate(Sum("micros"))
    rolled_up = {(component, product): int(micros) for component, product, micros in sums}
    for key in sorted(rolled_up.keys() | charged.keys()):
        if rolled_up.get(key, 0) != charged[key]:
            subject = f"{Component(key[0]).label}, {key[1]}"
            cause = "The rollups do not hold what was charged; rebuild them."
            yield Difference("rollups", subject, charged[key], rolled_up.get(key, 0), cause)


def _uncharged(organization_id: int, month: date) -> Iterator[Difference]:
    """Name the calls of a month that were neither charged nor set aside as unrated."""
    period = Period.objects.filter(organization_id=organization_id, month=month).first()
    if period is None:
        return
    calls = Call.objects.filter(
        organization_id=organization_id,
        started_at__gte=period.starts_at,
        started_at__lt=period.ends_at,
        charge=None,
        unrated=None,
    )
    for call_id in calls.order_by("id").values_list("call_id", flat=True).iterator(chunk_size=_CHUNK):
        yield Difference("calls", f"call {call_id}", None, None, "The call was recorded and never charged.")
