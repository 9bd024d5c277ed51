"""What a quantity costs under a price: per unit, tiered, packaged, in any of the price's currencies."""

from decimal import Decimal
from typing import Any

from billing_portal.sandbox import currencies
from billing_portal.sandbox.store import Object


def amount(price: Object, currency: str, quantity: int) -> int:
    """The cost in minor units, rounded half up once; a negative quantity costs nothing."""
    quantity = max(0, quantity)
    if package := price["transform_quantity"]:
        whole, rest = divmod(quantity, package["divide_by"])
        quantity = whole + (1 if rest and package["round"] == "up" else 0)
    option = (price.get("currency_options") or {}).get(currency, price)
    if price["billing_scheme"] == "per_unit":
        return currencies.rounded(Decimal(unit_amount_decimal(price, currency) or 0) * quantity)
    tiers = option.get("tiers") or price["tiers"]
    exact = _volume(tiers, quantity) if price["tiers_mode"] == "volume" else _graduated(tiers, quantity)
    return currencies.rounded(exact)


def unit_amount_decimal(price: Object, currency: str) -> str | None:
    option = (price.get("currency_options") or {}).get(currency, price)
    found = option.get("unit_amount_decimal")
    return str(found) if found is not None else None


def _volume(tiers: list[dict[str, Any]], quantity: int) -> Decimal:
    tier = next(t for t in tiers if t["up_to"] is None or quantity <= t["up_to"])
    return _unit(tier) * quantity + _flat(tier)


def _graduated(tiers: list[dict[str, Any]], quantity: int) -> Decimal:
    total, below = Decimal(0), 0
    for tier in tiers:
        top = quantity if tier["up_to"] is None else min(quantity, tier["up_to"])
        if top <= below and below > 0:
            break
        total += _unit(tier) * (top - below) + _flat(tier)
        below = top
    return total


def _unit(tier: dict[str, Any]) -> Decimal:
    return Decimal(tier["unit_amount_decimal"] or tier["unit_amount"] or 0)


def _flat(tier: dict[str, Any]) -> Decimal:
    return Decimal(tier["flat_amount_decimal"] or tier["flat_amount"] or 0)
