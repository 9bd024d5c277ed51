"""Amounts as the desk shows them: exact, in at least the currency's own decimals, and with its code."""

from billing_portal.billing import minor_units
from usage.money import MICROS_PER_UNIT


def amount(micros: int | None, currency: str) -> str:
    """Return micros as an exact amount: "12.34 USD", "1,234 JPY", "0.1521 USD"; no more decimals than it has."""
    if micros is None:
        return "–"
    whole, fraction = divmod(abs(micros), MICROS_PER_UNIT)
    decimals = f"{fraction:06d}".rstrip("0").ljust(minor_units.exponent(currency), "0")
    return f"{'−' if micros < 0 else ''}{whole:,}{'.' if decimals else ''}{decimals} {currency}"
