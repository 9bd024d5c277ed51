"""What people call a card. The codes are those of `card.brand` in Stripe's API reference."""

_BRANDS = {
    "amex": "American Express",
    "cartes_bancaires": "Cartes Bancaires",
    "diners": "Diners Club",
    "eftpos_au": "eftpos",
    "jcb": "JCB",
    "unionpay": "UnionPay",
}


def of(brand: str, kind: str, last4: str) -> str:
    """Return a card's name, as `Visa 4242`; of what is no card its kind, as `Link`; empty where nothing is known."""
    named = brand if brand != "unknown" else ""
    return f"{_BRANDS.get(named) or (named or kind).replace('_', ' ').capitalize()} {last4}".strip()
