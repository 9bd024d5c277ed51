"""Asking Stripe again for what is open: refunds on their way, disputes, warnings. Their events may be lost (F4)."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import structlog

from billing_portal.billing import claim_sources, claims, gateway
from billing_portal.billing.models import Chargeback, FraudWarning, Refund

log = structlog.get_logger(__name__)

_Receive = Callable[..., Any]


def look_again(*, now: datetime, limit: int = 500) -> int:
    """Take over every open object as it is at Stripe now; return how many were asked for. One that fails stops none."""
    asked = 0
    for kind, stripe_id, receive in _open(limit):
        asked += 1
        try:
            found = gateway.retrieve(kind, stripe_id)
            claim_sources.trace(found, now=now)
            receive(found, now=now)
        except Exception:
            log.exception("open object cannot be read", stripe_id=stripe_id)
    return asked


def _open(limit: int) -> Iterator[tuple[gateway.Kind, str, _Receive]]:
    # A refund that succeeded may still fail for weeks, but then Stripe's own list of events tells.
    refunds = Refund.objects.filter(state=Refund.State.PENDING).order_by("id")[:limit]
    disputes = Chargeback.objects.filter(closed_at=None).order_by("id")[:limit]
    warnings = FraudWarning.objects.filter(state=FraudWarning.State.OPEN).order_by("id")[:limit]
    for refund in refunds:
        yield "refunds", refund.stripe_refund_id, claims.receive_refund
    for dispute in disputes:
        yield "disputes", dispute.stripe_dispute_id, claims.receive_chargeback
    for warning in warnings:
        yield "radar.early_fraud_warnings", warning.stripe_warning_id, claims.receive_warning
