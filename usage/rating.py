"""What a call costs: a pure function of its facts and the prices in force.

Quantities are rounded up, as the prices say; money is rounded once a line, half up, in integers.
"""

from dataclasses import dataclass

import msgspec

from usage.models import Component
from usage.money import round_half_up, round_up
from usage.snapshots import Rate, Snapshot

MS_PER_SECOND = 1_000
MS_PER_MINUTE = 60_000
# What a column of the database holds; a call that costs more is an error in its facts or in the prices.
MAX_MICROS = 2**62


class CallFacts(msgspec.Struct, frozen=True, gc=False):
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


class Rating(msgspec.Struct, frozen=True, gc=False):
    """What a call costs: parallel by the places of `Snapshot.rate_ids`, and the exact sum in `amount_micros`.

    What is nothing at the end is left out of `line_micros`, so a call that costs nothing has none.
    """

    rates: tuple[Rate, ...]
    quantities: tuple[int, ...]
    line_micros: tuple[int, ...]
    amount_micros: int

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines that bill anything, in the order of components."""
        return tuple(
            Line(rate.id, rate.component, rate.product, quantity, rate.unit, micros)
            for rate, quantity, micros in zip(self.rates, self.quantities, self._micros, strict=True)
            if quantity
        )

    @property
    def _micros(self) -> tuple[int, ...]:
        return self.line_micros + (0,) * (len(self.rates) - len(self.line_micros))


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
        return _FREE
    billable_ms = max(facts.duration_ms - snapshot.free_ms, 0)
    quantities = [_quantity(facts, rate, billable_ms) for rate in rates]
    micros = [
        round_half_up(quantity * rate.rate_micros, rate.quantity_per_unit) if quantity else 0
        for quantity, rate in zip(quantities, rates, strict=True)
    ]
    if snapshot.surcharge is not None:
        quantity, amount = _surcharge(facts, snapshot, rates, quantities)
        rates, quantities, micros = (*rates, snapshot.surcharge), [*quantities, quantity], [*micros, amount]
    amount_micros = sum(micros)
    if amount_micros > MAX_MICROS:
        raise AmountOutOfRange
    while micros and not micros[-1]:
        micros.pop()
    return Rating(rates, tuple(quantities), tuple(micros), amount_micros)


_FREE = Rating((), (), (), 0)


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


def _surcharge(facts: CallFacts, snapshot: Snapshot, rates: tuple[Rate, ...], quantities: list[int]) -> tuple[int, int]:
    """Return (milliseconds, micros) of the surcharge: the tokens' extra seconds at the language models' rates."""
    if facts.llm_tokens <= facts.llm_requests * snapshot.token_threshold:
        return 0, 0
    llm_ms, llm_micros_per_minute = 0, 0
    for rate, quantity in zip(rates, quantities, strict=True):
        if rate.component == Component.LLM and rate.micros_per_minute:
            llm_ms = max(llm_ms, quantity)
            llm_micros_per_minute += rate.micros_per_minute
    if not llm_micros_per_minute:
        return 0, 0
    quantity = MS_PER_SECOND * surcharge_seconds(round_up(llm_ms, MS_PER_SECOND), facts, snapshot.token_threshold)
    return quantity, round_half_up(quantity * llm_micros_per_minute, MS_PER_MINUTE)


def _quantity(facts: CallFacts, rate: Rate, billable_ms: int) -> int:
    if rate.is_for_time:
        return billed_ms(billable_ms, rate)
    return 1 if rate.is_for_calls else facts.llm_tokens
