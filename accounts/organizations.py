"""What happens to an organization after it is made: suspension, and a change of time zone."""

from collections.abc import Sequence

import structlog
from django.db import transaction

from accounts.models import Organization, validate_time_zone

logger = structlog.get_logger(__name__)
Status = Organization.Status


class OrganizationClosed(Exception):
    """The organization is closed; nothing about it changes any more."""

    def __init__(self, organization: Organization) -> None:
        super().__init__(f"{organization} is closed.")
        self.organization = organization


def suspend(organization: Organization) -> None:
    """Stop the organization's usage until it is reinstated. Doing it twice is doing it once."""
    _move(organization, Status.SUSPENDED)


def reinstate(organization: Organization) -> None:
    """Let a suspended organization go on. Doing it twice is doing it once."""
    _move(organization, Status.ACTIVE)


@transaction.atomic
def change_details(organization: Organization, *, name: str, time_zone: str) -> None:
    """Change what an organization may change about itself; the time zone from the next period on."""
    locked = _lock(organization)
    locked.name = name
    locked.save(update_fields=["name"])
    change_time_zone(organization, time_zone=time_zone)
    organization.name = name


@transaction.atomic
def change_recipients(organization: Organization, *, emails: Sequence[str]) -> None:
    """Say who reads about money, the billing address first. Raises ValueError without any."""
    billing_email, *others = dict.fromkeys(email.strip().lower() for email in emails)
    locked = _lock(organization)
    locked.billing_email, locked.invoice_recipients = billing_email, others
    locked.save(update_fields=["billing_email", "invoice_recipients"])
    organization.billing_email, organization.invoice_recipients = billing_email, others


@transaction.atomic
def change_time_zone(organization: Organization, *, time_zone: str) -> None:
    """Let the organization's days begin in `time_zone` from the next period on.

    The running period keeps its zone, so that no hour is billed twice or never. Choosing the present zone
    withdraws a change that waits.
    """
    validate_time_zone(time_zone)
    locked = _lock(organization)
    locked.next_time_zone = "" if time_zone == locked.time_zone else time_zone
    locked.save(update_fields=["next_time_zone"])
    organization.next_time_zone = locked.next_time_zone


@transaction.atomic
def adopt_time_zone(organization: Organization) -> None:
    """Put the waiting time zone in force. Whoever opens a period calls this before reading the zone."""
    locked = _lock(organization)
    if locked.next_time_zone:
        locked.time_zone, locked.next_time_zone = locked.next_time_zone, ""
        locked.save(update_fields=["time_zone", "next_time_zone"])
    organization.time_zone, organization.next_time_zone = locked.time_zone, locked.next_time_zone


@transaction.atomic
def _move(organization: Organization, status: Organization.Status) -> None:
    locked = _lock(organization)
    if locked.status == Status.CLOSED:
        raise OrganizationClosed(organization)
    if locked.status != status:
        locked.status = status
        locked.save(update_fields=["status"])
        logger.info("organization_status_changed", organization=str(locked.public_id), status=str(status))
    organization.status = status


def _lock(organization: Organization) -> Organization:
    return Organization.objects.select_for_update().get(pk=organization.pk)
