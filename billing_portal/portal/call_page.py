"""A call's price in words: how each line comes about, and who pays for it."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from billing_portal.ledger.settlement import Funding
from billing_portal.portal import call_list, formats
from usage import charges, revisions
from usage.charges import ChargeLine
from usage.models import Call, PriceRate

Unit = PriceRate.Unit
_MS_PER_SECOND = 1000


def line(each: ChargeLine, currency: str) -> dict[str, Any]:
    """Return a price line with the sentence that lets anyone recompute it."""
    return {"label": each.label or each.product, "micros": each.micros, "how": _how(each, currency)}


def parts(*fundings: Funding | None, given_back_micros: int = 0) -> list[dict[str, Any]]:
    """Return who pays for all revisions of a call: each credit, then the card, then what was given back.

    Empty while the call waits for settlement.
    """
    settled = [funding for funding in fundings if funding is not None]
    if not settled:
        return []
    paid = Counter[str]()
    for funding in settled:
        for grant, micros in funding.grants:
            paid[grant.get_kind_display()] += micros
    card = sum(funding.accrued_micros for funding in settled)
    if card or not paid:
        paid["Your card, on the invoice"] = card
    if given_back_micros:
        paid["Given back as credit"] = -given_back_micros
    return [{"label": label, "micros": micros} for label, micros in paid.items()]


def history(found: Sequence[Call]) -> list[dict[str, Any]]:
    """Return the revisions of a call, the newest first: when and why each was made, and what it changed in money."""
    rows = []
    for call in reversed(found):
        charge, made = charges.of(call), revisions.of(call)
        rows.append(
            {
                "number": call.revision,
                "at": made.recorded_at if made else charge.received_at if charge else None,
                "origin": made.get_origin_display() if made else "",
                "reason": made.reason if made else "",
                "call": call,
                "charge": charge,
                "is_newest": call is found[-1],
                "status_label": call_list.label(call.kind.status),
            }
        )
    return rows


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
