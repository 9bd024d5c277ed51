"""Currencies: minor units, what Stripe charges at least, and rounding.

Sources: docs.stripe.com/currencies. Amounts are integers in the currency's minor unit.
"""

from decimal import ROUND_HALF_UP, Decimal

from .errors import invalid

ZERO_DECIMAL = {
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf",
}  # fmt: skip
THREE_DECIMAL = {"bhd", "jod", "kwd", "omr", "tnd"}
MINIMUM = {
    "usd": 50, "eur": 50, "gbp": 30, "jpy": 50, "cad": 50, "aud": 50, "chf": 50, "dkk": 250, "sek": 300, "nok": 300,
    "hkd": 400, "sgd": 50, "nzd": 50, "mxn": 1000, "pln": 200, "czk": 1500, "brl": 50, "inr": 50, "aed": 200,
}  # fmt: skip
KNOWN = ZERO_DECIMAL | THREE_DECIMAL | set(MINIMUM) | {
    "ars", "bgn", "cop", "crc", "egp", "huf", "idr", "ils", "kes", "mad", "myr", "ngn", "pen", "php", "qar", "ron",
    "sar", "thb", "try", "twd", "uah", "uyu", "zar",
}  # fmt: skip
LARGEST = 99_999_999


def minimum(currency: str) -> int:
    """The least that Stripe charges, in minor units."""
    return MINIMUM.get(currency, 500 if currency in THREE_DECIMAL else 50)


def check(currency: str, *, param: str = "currency") -> str:
    code = currency.lower()
    if code not in KNOWN:
        raise invalid(f"Invalid currency: {currency}.", param=param)
    return code


def check_charge(amount: int, currency: str) -> None:
    """Refuse what Stripe refuses to charge."""
    code = check(currency)
    if amount < 1:
        raise invalid(
            "This value must be greater than or equal to 1.", param="amount", code="parameter_invalid_integer"
        )
    if amount < minimum(code):
        least = Decimal(minimum(code)).scaleb(-exponent(code))
        raise invalid(f"Amount must be at least {least} {code}", param="amount", code="amount_too_small")
    if amount > LARGEST:
        raise invalid(f"Amount must be no more than {LARGEST}", param="amount", code="amount_too_large")
    if code in THREE_DECIMAL and amount % 10:
        raise invalid(f"Amounts in {code} must be divisible by 10: the last digit is not supported.", param="amount")


def exponent(currency: str) -> int:
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def rounded(amount: Decimal) -> int:
    """Half up, away from zero, to a whole minor unit."""
    return int(amount.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def share(amount: int, part: int, whole: int) -> int:
    """The part of an amount that belongs to a part of the whole, rounded half up."""
    return rounded(Decimal(amount) * part / whole) if whole else 0
