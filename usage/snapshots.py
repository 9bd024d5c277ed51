"""A price version as plain values, so that rating needs no database."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from usage.models import Component, PriceRate

Unit = PriceRate.Unit
_COMPONENT_ORDER = {component: position for position, component in enumerate(Component.values)}
_SECONDS_PER_MINUTE = 60
_PLANS_KEPT = 10_000
# What a rate is for, in the unit of quantities: milliseconds, calls or tokens.
_QUANTITIES = {
    Unit.MINUTE: 60_000,
    Unit.SECOND: 1_000,
    Unit.CALL: 1,
    Unit.THOUSAND_TOKENS: 1_000,
    Unit.SURCHARGE: 60_000,
}


@dataclass(frozen=True, slots=True)
class Rate:
    """What one product costs: `rate_micros` per unit; times in milliseconds."""

    id: int
    component: str
    product: str
    label: str
    unit: str
    rate_micros: int
    minimum_ms: int
    increment_ms: int

    # Derived once a rate, because every line of every call asks: what it measures, how much of that `rate_micros` is
    # for, and what a minute costs if it is a rate for time, else 0.
    is_for_time: bool = field(init=False, repr=False, compare=False)
    is_for_calls: bool = field(init=False, repr=False, compare=False)
    quantity_per_unit: int = field(init=False, repr=False, compare=False)
    micros_per_minute: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        is_for_time = self.unit in (Unit.MINUTE, Unit.SECOND)
        per_minute = self.rate_micros * (1 if self.unit == Unit.MINUTE else _SECONDS_PER_MINUTE)
        object.__setattr__(self, "is_for_time", is_for_time)
        object.__setattr__(self, "is_for_calls", self.unit == Unit.CALL)
        object.__setattr__(self, "quantity_per_unit", _QUANTITIES[Unit(self.unit)])
        object.__setattr__(self, "micros_per_minute", per_minute if is_for_time else 0)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One price version. Immutable, and shared by all calls that it prices."""

    version_id: int
    book: str
    number: int
    currency: str
    starts_at: datetime
    grace_ms: int
    free_ms: int
    token_threshold: int
    rates: dict[str, Rate]
    surcharge: Rate | None = None
    _plans: dict[tuple[str, ...], tuple[Rate, ...] | None] = field(
        default_factory=dict, repr=False, compare=False, hash=False
    )

    def rates_of(self, products: tuple[str, ...]) -> tuple[Rate, ...] | None:
        """Return the products' rates in the order of components, then names; None if one has no rate."""
        try:
            return self._plans[products]
        except KeyError:
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
            return self._plans.setdefault(products, self._plan(products))

    def rate_ids(self, products: tuple[str, ...]) -> list[int]:
        """Return the rates of a call's lines by place: those of its products, the surcharge last."""
        rates = [rate.id for rate in self.rates_of(products) or ()]
        return [*rates, self.surcharge.id] if self.surcharge else rates

    def unpriced(self, products: tuple[str, ...]) -> list[str]:
        """Return the products without a rate, sorted. The surcharge follows from tokens and is never named."""
        return sorted(
            {product for product in products if product not in self.rates and not self._is_surcharge(product)}
        )

    def _plan(self, products: tuple[str, ...]) -> tuple[Rate, ...] | None:
        if self.unpriced(products):
            return None
        rates = {self.rates[product] for product in products if not self._is_surcharge(product)}
        return tuple(sorted(rates, key=lambda rate: (_COMPONENT_ORDER[rate.component], rate.product)))

    def _is_surcharge(self, product: str) -> bool:
        return self.surcharge is not None and product == self.surcharge.product


def assemble(
    rates: Iterable[Rate],
    version_id: int,
    book: str,
    number: int,
    currency: str,
    starts_at: datetime,
    grace_ms: int,
    free_ms: int,
    token_threshold: int,
) -> Snapshot:
    """Return a snapshot of a version's columns and rates; the rate of the unit surcharge stands apart."""
    by_product = {rate.product: rate for rate in rates}
    return Snapshot(
        version_id=version_id,
        book=book,
        number=number,
        currency=currency,
        starts_at=starts_at,
        grace_ms=grace_ms,
        free_ms=free_ms,
        token_threshold=token_threshold,
        rates={product: rate for product, rate in by_product.items() if rate.unit != Unit.SURCHARGE},
        surcharge=next((rate for rate in by_product.values() if rate.unit == Unit.SURCHARGE), None),
    )
