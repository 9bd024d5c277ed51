"""Letters about disputes: to those who look after the customer's money and whoever opened it, and to the staff."""

from datetime import datetime

from django.conf import settings

from accounts import letters
from billing_portal.billing.models import Dispute, DisputeMessage


def opened(dispute: Dispute, text: str, *, now: datetime) -> None:
    """Tell staff what is disputed and by when an answer is due, and the customer that it arrived."""
    _to_staff(dispute, "opened", now=now, text=text)
    _to_customer(dispute, "opened", now=now, text=text)


def written(message: DisputeMessage, *, now: datetime) -> None:
    """Tell the other side what was written."""
    tell = _to_customer if message.is_from_vendor else _to_staff
    tell(message.dispute, f"written:{message.public_id}", now=now, text=message.text)


def decided(dispute: Dispute, *, now: datetime) -> None:
    """Tell the customer what was decided, and why."""
    _to_customer(dispute, "decided", now=now)


def late(dispute: Dispute, *, now: datetime) -> None:
    """Tell staff that an answer is late."""
    _to_staff(dispute, f"late:{dispute.due_at:%Y-%m-%dT%H:%M}", now=now)


def _to_customer(dispute: Dispute, event: str, *, now: datetime, text: str = "") -> None:
    letters.write(
        template="emails/dispute_customer",
        reference=f"dispute:{dispute.public_id}:{event}:customer",
        to=[*letters.billing_addresses(dispute.organization), dispute.opened_by.email],
        organization=dispute.organization,
        now=now,
        dispute=dispute,
        event=event.partition(":")[0],
        text=text,
    )


def _to_staff(dispute: Dispute, event: str, *, now: datetime, text: str = "") -> None:
    letters.write(
        template="emails/dispute_staff",
        reference=f"dispute:{dispute.public_id}:{event}:staff",
        to=settings.STAFF_NOTICE_EMAILS,
        organization=dispute.organization,
        now=now,
        dispute=dispute,
        event=event.partition(":")[0],
        text=text,
    )
