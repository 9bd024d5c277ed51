"""Who belongs to an organization, and as what."""

import structlog
from django.db import transaction

from accounts.models import Membership, Organization

logger = structlog.get_logger(__name__)
Role = Membership.Role


class LastOwner(Exception):
    """An organization keeps at least one owner."""

    def __init__(self, membership: Membership) -> None:
        super().__init__("This person is the last owner. Make someone else an owner first.")
        self.membership = membership


class OwnersOnly(Exception):
    """Only an owner makes an owner, or makes one something else."""

    def __init__(self, membership: Membership) -> None:
        super().__init__("Only an owner may make somebody an owner or take that role away.")
        self.membership = membership


@transaction.atomic
def set_role(membership: Membership, *, role: Membership.Role, by: Membership) -> None:
    """Give the person another role; `by` is the membership of whoever asks.

    The organization is locked, so that two owners who step down at once do not both succeed.
    Raises OwnersOnly and LastOwner.
    """
    Organization.objects.select_for_update().get(pk=membership.organization_id)
    members = Membership.objects.filter(organization=membership.organization_id)
    locked = members.get(pk=membership.pk)
    asking = members.get(pk=by.pk)
    if Role.OWNER in (role, locked.role) and role != locked.role:
        if asking.role != Role.OWNER:
            raise OwnersOnly(asking)
        if locked.role == Role.OWNER and not members.filter(role=Role.OWNER).exclude(pk=locked.pk).exists():
            raise LastOwner(locked)
    locked.role = membership.role = role
    locked.save(update_fields=["role"])
    logger.info("role_changed", membership=locked.pk, role=str(role), by=asking.pk)
