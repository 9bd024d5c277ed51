"""A call's price in words: how each line comes about, and who pays for it."""

import json
from typing import Any

from billing_portal.ledger.settlement import Funding
from billing_portal.portal import formats
from usage.charges import ChargeLine
from usage.models import PriceRate

Unit = PriceRate.Unit
_MS_PER_SECOND = 1000


def line(each: ChargeLine, currency: str) -> dict[str, Any]:
    """Return a price line with the sentence that lets anyone recompute it."""
    return {"label": each.label or each.product, "micros": each.micros, "how": _how(each, currency)}


def parts(funding: Funding | None) -> list[dict[str, Any]]:
    """Return who pays: each credit, then the card. Empty while the call waits for settlement."""
    if funding is None:
        return []
    paid = [{"label": grant.get_kind_display(), "micros": micros} for grant, micros in funding.grants]
    if funding.accrued_micros or not paid:
        paid.append({"label": "Your card, on the invoice", "micros": funding.accrued_micros})
    return paid


def printable(metadata: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the vendor's own fields as short texts, by name."""
    return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in sorted(metadata.items())]


def _how(each: ChargeLine, currency: str) -> str:
    """Say quantity and rate: "97 s at $0.07 a minute"."""
    rate = formats.money_exact(each.rate_micros, currency)
    seconds = f"{formats.quantity(each.quantity // _MS_PER_SECOND)} s"
    return {
        Unit.MINUTE: f"{seconds} at {rate} a minute",
        Unit.SECOND: f"{seconds} at {rate} a second",
        Unit.CALL: f"{rate} a call",
        Unit.THOUSAND_TOKENS: f"{formats.quantity(each.quantity)} tokens at {rate} for 1,000",
        Unit.SURCHARGE: f"{seconds} above the call's length, at the language model's rate",
    }[Unit(each.unit)]
