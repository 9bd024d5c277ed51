"""The month's calls, one by one: rated anew from the facts, counted without a gap, summed up as settled.

Streams the charges of one organization and month in the order of their sequence, beside the settlements that say which
sequences there must be. Memory does not grow with the number of calls; of more than a hundred
differences the rest is counted.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from django.db.models import Window
from django.db.models.functions import Lag

from billing_portal.ledger.models import Account, Period, Settlement
from usage import charges, deltas, prices, rating, revisions, rollups
from usage.charges import ChargedCall
from usage.models import Billable

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


# ── One pass over the charges ─────────────────────────────────────────────────────────────────────────────────────────


def _audit(organization_id: int, month: date) -> Iterator[Difference]:
    charged: Counter[tuple[str, str]] = Counter()
    rows = charges.of_month(organization_id, month)
    row = next(rows, None)
    for settlement in _settlements(organization_id, month):
        expected = settlement.first_sequence
        by_rate: Counter[int] = Counter()
        while row is not None and row.sequence <= settlement.last_sequence:
            if row.sequence != expected:
                yield from _missing(expected, row.sequence)
            yield from _rated_anew(row)
            for rate_id, micros in zip(row.rate_ids, row.line_micros, strict=False):
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
    yield from _corrected(organization_id, month)
    yield from _rolled_up(organization_id, month, charged)
    yield from _uncharged(organization_id, month)


def _by_product(by_rate: Counter[int]) -> Counter[tuple[str, str]]:
    """Return micros by (component, product) for those by rate."""
    sums: Counter[tuple[str, str]] = Counter()
    for rate_id, ref in prices.rate_refs(by_rate.keys()).items():
        sums[ref.component, ref.product] += by_rate[rate_id]
    return sums


def _settlements(organization_id: int, month: date) -> Iterator[Settlement]:
    settlements = Settlement.objects.filter(
        organization_id=organization_id, month=month, source=Settlement.Source.CALLS
    ).order_by("first_sequence")
    return settlements.prefetch_related("lines").iterator(chunk_size=_CHUNK)


def _missing(expected: int, reached: int) -> Iterator[Difference]:
    """Name the sequence numbers from `expected` to before `reached`: their charges, so their calls, are not there."""
    for sequence in range(expected, min(reached, expected + NAMED)):
        yield Difference("sequence", f"charge {sequence}", sequence, None, "The charge and its call are missing.")


def _rated_anew(row: ChargedCall) -> Iterator[Difference]:
    """Compare a charge with what its facts cost under its price version, line by line."""
    facts = rating.CallFacts(row.duration_ms, tuple(row.products), row.llm_tokens, row.llm_requests)
    try:
        rated = rating.rate(facts, prices.snapshot(row.price_version_id))
    except (KeyError, rating.ProductsUnpriced) as error:
        cause = f"Its price version {row.price_version_id} does not price it: {error}"
        yield Difference("charges", f"call {row.call_id}", None, row.amount_micros, cause)
        return
    if rated.line_micros != tuple(row.price_micros):
        yield from _wrong_lines(row, rated.line_micros)
    if sum(row.line_micros) != row.amount_micros:
        subject = f"call {row.call_id}, charge {row.sequence}"
        yield Difference("charges", subject, sum(row.line_micros), row.amount_micros, "The lines do not add up to it.")


def _corrected(organization_id: int, month: date) -> Iterator[Difference]:
    """Compare what each revision was charged and gave back with what its price and the one it replaces come to."""
    for each in revisions.of_month(organization_id, month):
        subject = f"call {each.call_id}, revision {each.revision}, charge {each.sequence}"
        replaced = Counter(each.before)
        if each.replaced_micros is not None:  # else it replaces none, or one that is in the archive
            replaced = deltas.by_component(_components(each.replaced_rate_ids), each.replaced_micros)
        for component in sorted(replaced.keys() | each.before.keys()):
            if replaced[component] != each.before.get(component, 0):
                cause = "The revision was held against another price than that of the one it replaces."
                name = f"{subject}, {Billable(component).label}"
                yield Difference("charges", name, replaced[component], each.before.get(component, 0), cause)
        delta = deltas.between(replaced, _components(each.rate_ids), each.price_micros)
        charged = sum(each.charged_micros)
        if delta.line_micros != tuple(each.charged_micros):
            cause = "What the revision costs more comes to another amount."
            yield Difference("charges", subject, delta.charged_micros, charged, cause)
        if delta.given_back != each.given_back:
            cause = "What the revision costs less comes to another amount."
            yield Difference("charges", subject, delta.given_back_micros, sum(each.given_back.values()), cause)


def _components(rate_ids: list[int] | None) -> list[str]:
    refs = prices.rate_refs(set(rate_ids or ()))
    return [refs[rate_id].component for rate_id in rate_ids or ()]


def _wrong_lines(row: ChargedCall, rated: Sequence[int]) -> Iterator[Difference]:
    refs = prices.rate_refs(set(row.rate_ids))
    for rate_id, ours, theirs in itertools.zip_longest(row.rate_ids, rated, row.price_micros):
        if (ours or 0) != (theirs or 0):
            product = refs[rate_id].product if rate_id else "a line of no product"
            subject = f"call {row.call_id}, charge {row.sequence}, {product}"
            yield Difference("charges", subject, ours or 0, theirs or 0, "The call's facts come to another amount.")


def _settled(settlement: Settlement, by_product: Counter[tuple[str, str]]) -> Iterator[Difference]:
    """Compare the lines of a settlement with the charges in its range."""
    charged: Counter[str] = Counter()
    for (component, _), micros in by_product.items():
        charged[component] += micros
    settled = {line.component: line.gross_micros for line in settlement.lines.all()}
    for component in sorted(settled.keys() | charged.keys()):
        if settled.get(component, 0) != charged[component]:
            subject = f"charges {settlement.first_sequence}–{settlement.last_sequence}, {Billable(component).label}"
            cause = "The settlement holds another sum than its charges."
            yield Difference("settlements", subject, charged[component], settled.get(component, 0), cause)


def _rolled_up(organization_id: int, month: date, charged: Counter[tuple[str, str]]) -> Iterator[Difference]:
    """Compare the rollups of a month with its charges, by product."""
    rolled_up = rollups.product_totals(organization_id, month)
    for key in sorted(rolled_up.keys() | charged.keys()):
        if rolled_up.get(key, 0) != charged[key]:
            subject = f"{Billable(key[0]).label}, {key[1]}"
            cause = "The rollups do not hold what was charged; rebuild them."
            yield Difference("rollups", subject, charged[key], rolled_up.get(key, 0), cause)


def _uncharged(organization_id: int, month: date) -> Iterator[Difference]:
    """Name the calls of a month that were neither charged nor set aside as unrated."""
    period = Period.objects.filter(organization_id=organization_id, month=month).first()
    if period is None:
        return
    for call_id in charges.uncharged(organization_id, starts_at=period.starts_at, ends_at=period.ends_at):
        yield Difference("calls", f"call {call_id}", None, None, "The call was recorded and never charged.")
