"""Amounts for people: Stripe's smallest units in the currency's own number of decimals."""

_WITHOUT_DECIMALS = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"]
)
_WITH_THREE = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])
_SIGNS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "cad": "CA$", "aud": "A$", "inr": "₹"}


def decimals(currency: str) -> int:
    if currency in _WITHOUT_DECIMALS:
        return 0
    return 3 if currency in _WITH_THREE else 2


def display(amount: int | None, currency: str | None) -> str:
    """Write 123456 usd as `$1,234.56`; a currency without a common sign is named by its code."""
    if amount is None or not currency:
        return "–"
    places = decimals(currency)
    whole, part = divmod(abs(amount), 10**places)
    number = f"{whole:,}" + (f".{part:0{places}d}" if places else "")
    sign = _SIGNS.get(currency, f"{currency.upper()} ")
    return f"{'-' if amount < 0 else ''}{sign}{number}"
