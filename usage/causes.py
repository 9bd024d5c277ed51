"""Why two periods cost what they cost: the change split into its causes, exactly, in whole micros.

What a product cost is a product of factors: how many calls there were, how long one was, which share of the time the
product had, and its rate. A cause is the change of one factor; its part is the mean of what it changes over all orders
in which the factors may change one after the other (Shapley's value). So the parts add up, no order is favored, the
parts from B to A are those from A to B with the other sign, and a factor that stayed has no part. All is computed in
fractions; each product's parts are rounded once, and what the rounding leaves goes to the largest of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from itertools import combinations
from math import factorial, prod
from typing import NamedTuple

from usage.models import Component, PriceRate
from usage.money import round_half_up

Unit = PriceRate.Unit


class Cause(StrEnum):
    """Why a period costs more or less than another, in the order in which causes are told."""

    VOLUME = "volume"
    DURATION = "duration"
    MIX = "mix"
    PRICE = "price"
    TOKENS = "tokens"
    CORRECTIONS = "corrections"


_FACTORS = (Cause.VOLUME, Cause.DURATION, Cause.MIX, Cause.PRICE, Cause.TOKENS)


class Priced(NamedTuple):
    """What one rate of a price version was for in a period: the calls that named its product, and its micros."""

    component: str
    product: str
    unit: str
    rate_micros: int
    rules: tuple[int, ...]  # how its version turns facts into quantities
    calls: int
    duration_ms: int
    llm_tokens: int
    micros: int


@dataclass(frozen=True, slots=True)
class Period:
    """A period's usage: all calls, connected milliseconds and tokens, and what each rate was for."""

    calls: int = 0
    duration_ms: int = 0
    llm_tokens: int = 0
    priced: tuple[Priced, ...] = ()

    @property
    def micros(self) -> int:
        return sum(each.micros for each in self.priced)


@dataclass(frozen=True, slots=True)
class Side:
    """A product in one period. `rate` is micros for one of its unit, the mean where it changed within the period."""

    calls: int = 0
    duration_ms: int = 0
    llm_tokens: int = 0
    micros: int = 0
    rate: Fraction | None = None
    rules: frozenset[tuple[int, ...]] = frozenset()


@dataclass(frozen=True, slots=True)
class ProductChange:
    """What a product cost before and after, and the parts of the causes, which add up to the difference."""

    component: str
    product: str
    unit: str
    before: Side
    after: Side
    parts: Mapping[Cause, int]

    @property
    def micros(self) -> int:
        return self.after.micros - self.before.micros


@dataclass(frozen=True, slots=True)
class Explanation:
    """The change from one period to another."""

    before: Period
    after: Period
    products: tuple[ProductChange, ...]

    @property
    def micros(self) -> int:
        return self.after.micros - self.before.micros

    @property
    def parts(self) -> dict[Cause, int]:
        """Every cause's part; they add up to the change."""
        return {cause: sum(each.parts[cause] for each in self.products) for cause in Cause}


def explain(before: Period, after: Period) -> Explanation:
    """Return why `after` costs more or less than `before`, product by product.

    A share, a length or a rate that one period does not have (it had no such call) is taken to be the other's, so it
    is no cause. What no quantity stands for, as the surplus of a corrected call, is a correction.
    """
    pairs = _pairs(before, after)
    split = {key: _split(key, *pair, before, after) for key, pair in pairs.items() if key.unit != Unit.SURCHARGE}
    changes = [_change(key, *pairs[key], each.exact()) for key, each in split.items()]
    models = [each for key, each in split.items() if key.component == Component.LLM and key.is_for_time]
    changes += [
        _change(key, *pair, _surcharge(*pair, models)) for key, pair in pairs.items() if key.unit == Unit.SURCHARGE
    ]
    return Explanation(before, after, tuple(sorted(changes, key=lambda each: (-abs(each.micros), each.product))))


def shapley(before: Sequence[Fraction], after: Sequence[Fraction]) -> list[Fraction]:
    """Return what each factor's change adds to that of their product; the parts add up to it exactly."""
    parts = [Fraction(0)] * len(before)
    moved = [index for index, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    same = prod((before[index] for index in range(len(before)) if index not in moved), start=Fraction(1))
    for player in moved:
        others = [index for index in moved if index != player]
        for size in range(len(moved)):
            weight = Fraction(factorial(size) * factorial(len(others) - size), factorial(len(moved)))
            parts[player] += weight * sum(
                prod((after[index] if index in changed else before[index] for index in others), start=Fraction(1))
                for changed in combinations(others, size)
            )
        parts[player] *= (after[player] - before[player]) * same
    return parts


def whole(parts: Mapping[Cause, Fraction], total: int) -> dict[Cause, int]:
    """Return the parts as whole micros that add up to `total`; a part of nothing stays nothing."""
    rounded = {cause: round_half_up(part.numerator, part.denominator) for cause, part in parts.items()}
    if rest := total - sum(rounded.values()):
        largest = max(parts, key=lambda cause: abs(parts[cause]))
        rounded[largest] += rest
    return rounded


class _Key(NamedTuple):
    """What is followed from one period to the other. A product that is priced by another unit is another."""

    component: str
    product: str
    unit: str

    @property
    def is_for_time(self) -> bool:
        return self.unit in (Unit.MINUTE, Unit.SECOND)


@dataclass(frozen=True, slots=True)
class _Split:
    """A product's factors in both periods, by cause, and what they do not explain of its micros."""

    before: dict[Cause, Fraction]
    after: dict[Cause, Fraction]
    unexplained: Fraction
    sides: tuple[Side, Side] = field(repr=False)

    def exact(
        self, tokens: tuple[Fraction, Fraction] | None = None, carrier: Cause = Cause.TOKENS
    ) -> dict[Cause, Fraction]:
        """Return the causes' parts; with a pair of `tokens`, those of the micros times these."""
        before, after = dict(self.before), dict(self.after)
        if tokens:
            before[carrier] *= tokens[0]
            after[carrier] *= tokens[1]
        parts = shapley([before[cause] for cause in _FACTORS], [after[cause] for cause in _FACTORS])
        rest = Fraction(0) if tokens else self.unexplained
        return {**dict(zip(_FACTORS, parts, strict=True)), Cause.CORRECTIONS: rest}

    @property
    def explained(self) -> tuple[Fraction, Fraction]:
        return prod(self.before.values(), start=Fraction(1)), prod(self.after.values(), start=Fraction(1))


def _pairs(before: Period, after: Period) -> dict[_Key, tuple[Side, Side]]:
    sides = [_sides(period.priced) for period in (before, after)]
    return {key: (sides[0].get(key, Side()), sides[1].get(key, Side())) for key in {**sides[0], **sides[1]}}


def _sides(priced: Iterable[Priced]) -> dict[_Key, Side]:
    """Add up a period's rates by product; a rate that changed within the period counts by what it was for."""
    by_key: dict[_Key, list[Priced]] = {}
    for each in priced:
        by_key.setdefault(_Key(each.component, each.product, each.unit), []).append(each)
    return {key: _side(key, rows) for key, rows in by_key.items()}


def _side(key: _Key, rows: list[Priced]) -> Side:
    weights = [_quantity(key, row) for row in rows]
    rate = None
    if sum(weights):
        rate = Fraction(sum(row.rate_micros * weight for row, weight in zip(rows, weights, strict=True)), sum(weights))
    return Side(
        calls=sum(row.calls for row in rows),
        duration_ms=sum(row.duration_ms for row in rows),
        llm_tokens=sum(row.llm_tokens for row in rows),
        micros=sum(row.micros for row in rows),
        rate=rate,
        rules=frozenset(row.rules for row in rows if _quantity(key, row)),
    )


def _quantity(key: _Key, of: Priced | Side) -> int:
    """Return what the product's price is for: connected milliseconds, calls or tokens of the calls that named it."""
    if key.is_for_time:
        return of.duration_ms
    return of.calls if key.unit == Unit.CALL else of.llm_tokens


def _split(key: _Key, first: Side, second: Side, before: Period, after: Period) -> _Split:
    """Return the factors of one product: micros = calls × length × share × rate × what rounding and rules bill."""
    factors: tuple[dict[Cause, Fraction], dict[Cause, Fraction]] = (
        dict.fromkeys(_FACTORS, Fraction(1)),
        dict.fromkeys(_FACTORS, Fraction(1)),
    )
    own = Cause.TOKENS if key.unit == Unit.THOUSAND_TOKENS else Cause.DURATION
    _multiply(factors, Cause.VOLUME, Fraction(before.calls), Fraction(after.calls))
    if key.unit == Unit.CALL:
        _multiply(factors, Cause.MIX, _ratio(first.calls, before.calls), _ratio(second.calls, after.calls))
    else:
        wholes = [of.duration_ms if key.is_for_time else of.llm_tokens for of in (before, after)]
        _multiply(factors, own, _ratio(wholes[0], before.calls), _ratio(wholes[1], after.calls))
        shares = [_ratio(_quantity(key, side), of) for side, of in zip((first, second), wholes, strict=True)]
        _multiply(factors, Cause.MIX, *shares)
    _multiply(factors, Cause.PRICE, first.rate, second.rate)
    _multiply(factors, _billed_by(key, first, second, own), _billed(key, first), _billed(key, second))
    unexplained = [
        side.micros - prod(of.values(), start=Fraction(1)) for side, of in zip((first, second), factors, strict=True)
    ]
    return _Split(*factors, unexplained=unexplained[1] - unexplained[0], sides=(first, second))


def _surcharge(first: Side, second: Side, models: Sequence[_Split]) -> dict[Cause, Fraction]:
    """Return the parts of the surcharge: a share on top of what the language models' time costs.

    So more calls, longer ones, a dearer model and its price raise it as they raise the model's time; the share itself
    is the tokens' doing.
    """
    bases = [sum((model.explained[at] for model in models), Fraction(0)) for at in (0, 1)]
    shares = [_ratio(side.micros, base) for side, base in zip((first, second), bases, strict=True)]
    total = Fraction(second.micros - first.micros)
    if shares == [None, None]:
        return {**dict.fromkeys(Cause, Fraction(0)), Cause.TOKENS: total}
    both = _both(*shares)
    parts = dict.fromkeys(Cause, Fraction(0))
    carrier = _surcharged_by((first, second), bases, models)
    for model in models:
        for cause, part in model.exact(both, carrier).items():
            parts[cause] += part
    parts[Cause.TOKENS] += total - sum(parts.values())
    return parts


def _billed(key: _Key, side: Side) -> Fraction | None:
    """Return what was billed of the product's quantity: more than all by increments, less by what is free."""
    return _ratio(side.micros, _quantity(key, side) * (side.rate or 0))


def _billed_by(key: _Key, first: Side, second: Side, own: Cause) -> Cause:
    """Return which cause the billed part of the quantity belongs to: the calls' lengths, unless the rules changed.

    Money is rounded once a call and line, so another rate changes the billed part by less than half a micro a call;
    that is the rate's doing as well.
    """
    if not (first.rules and second.rules):
        return own
    if first.rules != second.rules:
        return Cause.PRICE
    bases = [_quantity(key, side) * (side.rate or 0) for side in (first, second)]
    if first.rate != second.rate and _are_close(*map(_rounded, (first, second), bases)):
        return Cause.PRICE
    return own


def _surcharged_by(sides: tuple[Side, Side], bases: Sequence[Fraction], models: Sequence[_Split]) -> Cause:
    """Return which cause the surcharge's share belongs to: the tokens, unless a rule changed, or only the rounding."""
    first, second = sides
    if first.rules and second.rules and first.rules != second.rules:
        return Cause.PRICE
    if _are_close(*(_rounded(side, base, both=True) for side, base in zip(sides, bases, strict=True))):
        for cause in (Cause.PRICE, Cause.MIX):
            if any(model.before[cause] != model.after[cause] for model in models):
                return cause
    return Cause.TOKENS


def _rounded(side: Side, base: Fraction | int, both: bool = False) -> tuple[Fraction, Fraction] | None:
    """Return between what the side's micros ÷ base would lie, had no line of its calls been rounded to a micro.

    With `both`, the base is a sum of such lines, too.
    """
    ratio = _ratio(side.micros, base)
    if ratio is None or base < 0:
        return None
    slack = Fraction(side.calls, 2) / base * (2 * (1 + ratio) if both else 1)
    return ratio - slack, ratio + slack


def _are_close(first: tuple[Fraction, Fraction] | None, second: tuple[Fraction, Fraction] | None) -> bool:
    return first is not None and second is not None and first[0] <= second[1] and second[0] <= first[1]


def _multiply(
    factors: tuple[dict[Cause, Fraction], dict[Cause, Fraction]],
    cause: Cause,
    before: Fraction | None,
    after: Fraction | None,
) -> None:
    before, after = _both(before, after)
    factors[0][cause] *= before
    factors[1][cause] *= after


def _both(before: Fraction | None, after: Fraction | None) -> tuple[Fraction, Fraction]:
    """Return both; what one period does not have is as in the other."""
    known = next((each for each in (before, after) if each is not None), Fraction(1))
    return (known if before is None else before), (known if after is None else after)


def _ratio(part: Fraction | int, of: Fraction | int) -> Fraction | None:
    return Fraction(part) / of if of else None


def _change(key: _Key, first: Side, second: Side, parts: Mapping[Cause, Fraction]) -> ProductChange:
    micros = second.micros - first.micros
    return ProductChange(key.component, key.product, key.unit, first, second, whole(parts, micros))
