"""Money as integers: micros, millionths of the currency's major unit. There are no floats here."""

from dataclasses import dataclass

MICROS_PER_UNIT = 1_000_000


def round_half_up(numerator: int, denominator: int) -> int:
    """Return numerator ÷ denominator as the nearest whole number; exactly half goes away from zero.

    So 5 ÷ 2 is 3, and −5 ÷ 2 is −3: what is given back rounds as what was charged. `denominator` must be positive.
    """
    if denominator <= 0:
        raise ValueError(f"The denominator must be positive, not {denominator}.")
    magnitude = (2 * abs(numerator) + denominator) // (2 * denominator)
    return magnitude if numerator >= 0 else -magnitude


def round_up(numerator: int, denominator: int) -> int:
    """Return numerator ÷ denominator, rounded up to a whole number. For quantities, never for money."""
    return -(-numerator // denominator)


class CurrencyMismatch(ValueError):
    """Amounts of two currencies cannot be added or compared."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount: whole micros of a currency (three capitals)."""

    micros: int
    currency: str

    def __add__(self, other: "Money") -> "Money":
        return Money(self.micros + self._same(other), self.currency)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.micros - self._same(other), self.currency)

    def __neg__(self) -> "Money":
        return Money(-self.micros, self.currency)

    def __lt__(self, other: "Money") -> bool:
        return self.micros < self._same(other)

    def __le__(self, other: "Money") -> bool:
        return self.micros <= self._same(other)

    def __bool__(self) -> bool:
        return self.micros != 0

    def _same(self, other: "Money") -> int:
        if other.currency != self.currency:
            raise CurrencyMismatch(f"{self.currency} and {other.currency} cannot be mixed.")
        return other.micros
