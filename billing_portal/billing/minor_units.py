"""Micros and Stripe's minor units: the only place where one becomes the other.

A micro is a millionth of the currency's major unit; a minor unit is what Stripe's API counts in (cents, yen, fils).
Sources: ISO 4217 for the exponents; https://docs.stripe.com/currencies for Stripe's deviations. Stripe keeps the
Icelandic króna and the Ugandan shilling, which have no minor unit, at two decimals in which the last two digits are
zero, and wants the last digit of three-decimal amounts to be zero where a card is charged.
"""

from decimal import Decimal

from usage import money

_MICRO_DIGITS = 6
_DEFAULT_EXPONENT = 2

EXPONENTS = dict.fromkeys(
    ("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"), 0
) | dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 3)

# Amounts that are charged to a card must be multiples of these.
CHARGE_STEPS = {"ISK": 100, "UGX": 100} | {code: 10 for code, digits in EXPONENTS.items() if digits == 3}


def exponent(currency: str) -> int:
    """Return how many decimals Stripe's minor unit of `currency` (three letters, any case) has."""
    return EXPONENTS.get(currency.upper(), _DEFAULT_EXPONENT)


def micros_per_unit(currency: str) -> int:
    """Return how many micros one minor unit is: 10,000 for a cent, 1,000,000 for a yen, 1,000 for a fils."""
    return int(10 ** (_MICRO_DIGITS - exponent(currency)))


def from_micros(micros: int, currency: str) -> int:
    """Return `micros` in minor units, rounded half up once. The only rounding between usage and an invoice line."""
    return money.round_half_up(micros, micros_per_unit(currency))


def to_micros(minor: int, currency: str) -> int:
    """Return `minor` units in micros, exactly."""
    return minor * micros_per_unit(currency)


def is_chargeable(minor: int, currency: str) -> bool:
    """Say whether Stripe accepts this amount for a card payment in this currency (the last digits may have to be 0)."""
    return minor % CHARGE_STEPS.get(currency.upper(), 1) == 0


def price_micros(unit_amount_decimal: str, currency: str) -> int:
    """Return Stripe's `unit_amount_decimal`, minor units with decimals, in micros; below a micro is cut off."""
    return int(Decimal(unit_amount_decimal) * micros_per_unit(currency))


def amount_decimal(micros: int, currency: str) -> str:
    """Return micros as Stripe's `unit_amount_decimal`, exactly."""
    return f"{Decimal(micros) / micros_per_unit(currency):f}"


def plain(minor: int, currency: str) -> str:
    """Return minor units in the major unit as programs read them, with a point: "-12.30", "1500", "0.125"."""
    return f"{Decimal(minor).scaleb(-exponent(currency)):f}"


def unit_price(currency: str) -> Decimal:
    """Return the price of one micro in minor units: Stripe's `unit_amount_decimal`, which takes 12 decimals."""
    return Decimal(1) / micros_per_unit(currency)
