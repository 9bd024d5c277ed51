"""Amounts as the desk shows them: exact, whatever the currency's decimals, and with its code."""

from usage.money import MICROS_PER_UNIT


def amount(micros: int | None, currency: str) -> str:
    """Return micros as an exact amount: at least two decimals, no more than it has."""
    if micros is None:
        return "–"
    whole, fraction = divmod(abs(micros), MICROS_PER_UNIT)
    decimals = f"{fraction:06d}".rstrip("0").ljust(2, "0")
    return f"{'−' if micros < 0 else ''}{whole:,}.{decimals} {currency}"
