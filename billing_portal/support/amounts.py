"""Amounts as the desk shows them, exact, in at least the currency's own decimals and with its code, and takes them."""

from typing import Any

from django import forms

from billing_portal.billing import minor_units
from usage.money import MICROS_PER_UNIT


def amount(micros: int | None, currency: str) -> str:
    """Return micros as an exact amount: "12.34 USD", "1,234 JPY", "0.1521 USD"; no more decimals than it has."""
    if micros is None:
        return "–"
    whole, fraction = divmod(abs(micros), MICROS_PER_UNIT)
    decimals = f"{fraction:06d}".rstrip("0").ljust(minor_units.exponent(currency), "0")
    return f"{'−' if micros < 0 else ''}{whole:,}{'.' if decimals else ''}{decimals} {currency}"


def typed(micros: int) -> str:
    """Return micros as they are typed into a form: "0.99", "890"."""
    whole, fraction = divmod(micros, MICROS_PER_UNIT)
    return f"{whole}.{fraction:06d}".rstrip("0").rstrip(".")


class MicrosField(forms.DecimalField):
    """Micros in a form: typed in the currency's major unit, as everywhere on the desk."""

    def __init__(self, **options: Any) -> None:
        super().__init__(decimal_places=6, **options)

    def prepare_value(self, value: Any) -> Any:
        return typed(value) if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        amount = super().clean(value)
        return None if amount is None else int(amount * MICROS_PER_UNIT)
