"""What a call costs: a pure function of its facts and the prices in force.

Quantities are rounded up, as the prices say; money is rounded once a line, half up, in integers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from usage.models import Component, PriceRate
from usage.money import round_half_up, round_up
from usage.snapshots import Rate, Snapshot

Unit = PriceRate.Unit
MS_PER_SECOND = 1_000
MS_PER_MINUTE = 60_000
TOKENS_PER_UNIT = 1_000
# What a column of the database holds; a call that costs more is an error in its facts or in the prices.
MAX_MICROS = 2**62


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What a price may depend on: milliseconds, product names, and LLM tokens with the requests they are a sum over."""

    duration_ms: int
    products: tuple[str, ...]
    llm_tokens: int = 0
    llm_requests: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One product's part of a charge; `quantity` is milliseconds, calls or tokens, by `unit`."""

    rate_id: int
    component: str
    product: str
    quantity: int
    unit: str
    micros: int


@dataclass(frozen=True, slots=True)
class Rating:
    """The lines of a charge, by component, and their exact sum."""

    lines: tuple[Line, ...]
    amount_micros: int


class ProductsUnpriced(Exception):
    """The price version lacks products that the call used."""

    def __init__(self, products: list[str]) -> None:
        super().__init__(f"No price for {', '.join(products)}.")
        self.products = products


class AmountOutOfRange(Exception):
    """The charge would not fit its column."""


def rate(facts: CallFacts, snapshot: Snapshot) -> Rating:
    """Return what a call costs under `snapshot`, line by line.

    Longer calls, more tokens and more products never cost less. Raises ProductsUnpriced if a product has no rate: a
    price is never guessed. Raises AmountOutOfRange for a charge beyond 2^62 micros.
    """
    rates = snapshot.rates_of(facts.products)
    if rates is None:
        raise ProductsUnpriced(snapshot.unpriced(facts.products))
    if facts.duration_ms < snapshot.grace_ms:
        return Rating((), 0)
    billable_ms = max(facts.duration_ms - snapshot.free_ms, 0)
    lines = tuple(_lines(facts, snapshot, rates, billable_ms))
    amount_micros = sum([line.micros for line in lines])
    if amount_micros > MAX_MICROS:
        raise AmountOutOfRange
    return Rating(lines, amount_micros)


def billed_ms(billable_ms: int, rate: Rate) -> int:
    """Return the time that a rate bills: at least its minimum, rounded up to its increment; no time stays none."""
    if billable_ms <= 0:
        return 0
    return round_up(max(billable_ms, rate.minimum_ms), rate.increment_ms) * rate.increment_ms


def surcharge_seconds(billable_seconds: int, facts: CallFacts, threshold: int) -> int:
    """Return the seconds that a call's mean tokens per request add to its LLM time.

    Above the threshold LLM time is scaled by mean ÷ threshold and rounded up to a second; the surplus is the surcharge.
    The mean stays a sum and a count, so nothing is rounded before that.
    """
    allowed = facts.llm_requests * threshold
    if not allowed or facts.llm_tokens <= allowed:
        return 0
    return round_up(billable_seconds * facts.llm_tokens, allowed) - billable_seconds


def _lines(facts: CallFacts, snapshot: Snapshot, rates: tuple[Rate, ...], billable_ms: int) -> Iterator[Line]:
    llm_ms, llm_micros_per_minute = 0, 0
    for rate in rates:
        quantity = _quantity(facts, rate, billable_ms)
        if quantity:
            micros = _micros(quantity, rate)
            yield Line(rate.id, rate.component, rate.product, quantity, rate.unit, micros)
        if rate.component == Component.LLM and rate.micros_per_minute:
            llm_ms = max(llm_ms, quantity)
            llm_micros_per_minute += rate.micros_per_minute
    surcharge = snapshot.surcharge
    if surcharge is None or not llm_micros_per_minute:
        return
    seconds = surcharge_seconds(round_up(llm_ms, MS_PER_SECOND), facts, snapshot.token_threshold)
    if seconds:
        quantity = seconds * MS_PER_SECOND
        micros = round_half_up(quantity * llm_micros_per_minute, MS_PER_MINUTE)
        yield Line(surcharge.id, surcharge.component, surcharge.product, quantity, surcharge.unit, micros)


def _quantity(facts: CallFacts, rate: Rate, billable_ms: int) -> int:
    if rate.unit == Unit.MINUTE or rate.unit == Unit.SECOND:
        return billed_ms(billable_ms, rate)
    return 1 if rate.unit == Unit.CALL else facts.llm_tokens


def _micros(quantity: int, rate: Rate) -> int:
    if rate.unit == Unit.MINUTE:
        return round_half_up(quantity * rate.rate_micros, MS_PER_MINUTE)
    if rate.unit == Unit.SECOND:
        return round_half_up(quantity * rate.rate_micros, MS_PER_SECOND)
    if rate.unit == Unit.CALL:
        return quantity * rate.rate_micros
    return round_half_up(quantity * rate.rate_micros, TOKENS_PER_UNIT)
