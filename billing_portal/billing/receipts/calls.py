"""The calls of a receipt, and the prices behind them: one line each, in the order of their numbers."""

import base64
from collections import Counter
from collections.abc import Iterator
from typing import Any

from billing_portal.billing.receipts import canonical, merkle
from billing_portal.billing.receipts.scopes import Scope
from usage import charges, prices, revisions
from usage.charges import ChargedCall
from usage.snapshots import Rate, Snapshot


class Calls:
    """Writes the calls of a scope; afterwards `price_lines` holds what they were priced by.

    A call names its prices by the hash of their line, so that a single call and those prices prove what it costs.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._names: dict[tuple[int, tuple[str, ...]], str] = {}
        self._lines: dict[str, bytes] = {}

    def lines(self, *, after: int = 0) -> Iterator[bytes]:
        """Yield the line of every call, past number `after`. Memory does not grow with them."""
        scope = self.scope
        revised = revisions.of_month(scope.organization_id, scope.month)
        revision = next(revised, None)
        for call in charges.of_month(scope.organization_id, scope.month, after=after):
            if call.sequence > scope.through.sequence:
                return
            found = self._call(call)
            if call.revision > 1:
                while revision is not None and revision.sequence < call.sequence:
                    revision = next(revised, None)
                if revision is not None and revision.sequence == call.sequence:
                    found |= _revised(revision)
            yield canonical.encode(found)

    def price_lines(self) -> Iterator[bytes]:
        """Yield the line of every set of products that the calls so far were priced by, in the order of their names."""
        for name in sorted(self._lines):
            yield self._lines[name]

    def price_line(self, name: str) -> bytes:
        """Return the line that a call of those so far names."""
        return self._lines[name]

    def _call(self, call: ChargedCall) -> dict[str, Any]:
        return {
            "call_id": call.call_id,
            "duration_ms": call.duration_ms,
            "lines": call.line_micros,
            "llm_requests": call.llm_requests,
            "llm_tokens": call.llm_tokens,
            "micros": call.amount_micros,
            "prices": self._name(call.price_version_id, tuple(call.products)),
            "sequence": call.sequence,
            "started_at": canonical.instant(call.started_at),
        }

    def _name(self, version_id: int, products: tuple[str, ...]) -> str:
        key = (version_id, products)
        if key not in self._names:
            line = canonical.encode(_prices(prices.snapshot(version_id), products))
            name = base64.urlsafe_b64encode(merkle.leaf(line)).decode().rstrip("=")
            self._names[key], self._lines[name] = name, line
        return self._names[key]


def _prices(snapshot: Snapshot, products: tuple[str, ...]) -> dict[str, Any]:
    """Return the rates of these products in the order of a call's lines; the surcharge's line comes last."""
    return {
        "book": snapshot.book,
        "currency": snapshot.currency,
        "free_ms": snapshot.free_ms,
        "grace_ms": snapshot.grace_ms,
        "number": snapshot.number,
        "products": list(products),
        "rates": [_rate(rate) for rate in snapshot.rates_of(products) or ()],
        "starts_at": canonical.instant(snapshot.starts_at),
        "surcharge": snapshot.surcharge.product if snapshot.surcharge else None,
        "token_threshold": snapshot.token_threshold,
    }


def _rate(rate: Rate) -> list[Any]:
    return [rate.component, rate.product, str(rate.unit), rate.rate_micros, rate.minimum_ms, rate.increment_ms]


def _revised(revision: revisions.Settled) -> dict[str, Any]:
    """Return what a later revision says beyond its facts: its price in full, what that replaces, what is given back."""
    return {
        "before": dict(+Counter(revision.before)),
        "given_back": dict(+Counter(revision.given_back)),
        "price": revision.price_micros,
        "revision": revision.revision,
    }
