"""What staff are told of payments that are disputed or reported as fraud, at once: each has a deadline."""

from datetime import datetime

from django.conf import settings

from accounts import letters
from billing_portal.billing.models import Chargeback, FraudWarning


def tell_of_chargeback(chargeback: Chargeback, *, now: datetime) -> None:
    """Tell staff, once, that a payment is disputed."""
    _write("chargeback_opened", chargeback.stripe_dispute_id, chargeback=chargeback, now=now)


def tell_of_warning(warning: FraudWarning, *, now: datetime) -> None:
    """Tell staff, once, that a card's bank reported a payment as fraud."""
    _write("fraud_warned", warning.stripe_warning_id, warning=warning, now=now)


def _write(name: str, stripe_id: str, *, now: datetime, **context: object) -> None:
    subject = next(iter(context.values()))
    letters.write(
        template=f"emails/{name}",
        reference=f"{name}:{stripe_id}",
        to=settings.STAFF_NOTICE_EMAILS,
        organization=subject.organization,  # type: ignore[attr-defined]
        now=now,
        **context,
    )
