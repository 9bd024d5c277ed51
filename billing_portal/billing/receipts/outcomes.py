"""The outcomes of a receipt, the rules and prices behind them, and the buckets that paid: one line each."""

from collections.abc import Iterator
from typing import Any

from billing_portal.billing.receipts import canonical
from billing_portal.billing.receipts.scopes import Scope
from billing_portal.ledger.models import Bucket
from usage.models import OutcomeCharge, OutcomeRuleVersion
from usage.outcomes.charges import REVERSAL

_CHUNK = 2_000


class Outcomes:
    """Writes the settled outcomes of a scope; afterwards the lines of their rules and buckets can be had."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._buckets: dict[int, Bucket] = {}
        self._used: set[int] = set()
        self._rules: dict[int, OutcomeRuleVersion] = {}

    def lines(self) -> Iterator[bytes]:
        """Yield the line of every outcome and reversal, in the order of their numbers."""
        scope = self.scope
        self._buckets = {each.pk: each for each in Bucket.objects.filter(organization_id=scope.organization_id)}
        settled = OutcomeCharge.objects.filter(
            organization_id=scope.organization_id, billed_month=scope.month, sequence__lte=scope.through.sequence
        )
        known = settled.select_related("conversation", "rules__book", "reverses").order_by("sequence")
        for charge in known.iterator(chunk_size=_CHUNK):
            self._rules[charge.rules_id] = charge.rules
            yield canonical.encode(self._outcome(charge))

    def rule_lines(self) -> Iterator[bytes]:
        """Yield the line of every version of the rules that an outcome names, by book and number."""
        used = OutcomeRuleVersion.objects.filter(pk__in=self._rules).select_related("book").prefetch_related("prices")
        for version in used.order_by("book__reference", "number"):
            yield canonical.encode(_rules(version))

    def bucket_lines(self) -> Iterator[bytes]:
        """Yield the terms of every bucket that an outcome names, in the order they are used."""
        used = [self._buckets[bucket_id] for bucket_id in self._used]
        for bucket in sorted(used, key=lambda each: (each.expires_at, each.created_at, each.pk)):
            yield canonical.encode(_bucket(bucket))

    def _outcome(self, charge: OutcomeCharge) -> dict[str, Any]:
        return {
            "bucket": self._bucket_name(charge.bucket_id),
            "conversation": charge.conversation.reference,
            "decided_at": canonical.instant(charge.decided_at),
            "gives_back": f"outcome-reversal:{charge.pk}" if charge.kind == REVERSAL else None,
            "kind": charge.kind,
            "micros": charge.amount_micros,
            "outcome": charge.outcome,
            "price_micros": charge.price_micros,
            "reason": charge.reason,
            "reverses": self._reversed(charge.reverses),
            "revision": charge.revision,
            "rules": [charge.rules.book.reference, charge.rules.number],
            "sequence": charge.sequence,
        }

    def _reversed(self, charge: OutcomeCharge | None) -> dict[str, Any] | None:
        """Return what a reversal takes back."""
        if charge is None:
            return None
        bucket = self._bucket_name(charge.bucket_id)
        return {"bucket": bucket, "micros": charge.amount_micros, "sequence": charge.sequence}

    def _bucket_name(self, bucket_id: int | None) -> str | None:
        if bucket_id is None:
            return None
        self._used.add(bucket_id)
        return str(self._buckets[bucket_id].public_id)


def _rules(version: OutcomeRuleVersion) -> dict[str, Any]:
    return {
        "book": version.book.reference,
        "closing_decides": version.closing_decides,
        "confirming_rating": version.confirming_rating,
        "confirming_replies": sorted(version.confirming_replies),
        "currency": version.book.currency,
        "escalation_reverses": version.escalation_reverses,
        "number": version.number,
        "precedence": list(version.precedence),
        "prices": {price.outcome: price.price_micros for price in version.prices.all()},
        "reversing_rating": version.reversing_rating,
        "reversing_replies": sorted(version.reversing_replies),
        "starts_at": canonical.instant(version.starts_at),
        "window_seconds": version.window_seconds,
    }


def _bucket(bucket: Bucket) -> dict[str, Any]:
    return {
        "bucket": str(bucket.public_id),
        "created_at": canonical.instant(bucket.created_at),
        "expires_at": canonical.instant(bucket.expires_at),
        "outcomes": sorted(bucket.outcomes),
        "price_micros": bucket.price_micros,
        "size": bucket.size,
        "starts_at": canonical.instant(bucket.starts_at),
    }
