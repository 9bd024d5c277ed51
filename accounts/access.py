"""Who may do what: the five roles, and the one way to load an organization for a person."""

from enum import StrEnum
from uuid import UUID

from django.http import Http404

from accounts.models import Membership, Organization, User

Role = Membership.Role


class Permission(StrEnum):
    """One thing a role may do in its organization."""

    VIEW_USAGE = "view usage"
    VIEW_BILLING = "view billing"
    MANAGE_BILLING = "manage billing"
    MANAGE_KEYS = "manage API keys"
    MANAGE_SETTINGS = "manage settings"
    MANAGE_MEMBERS = "manage members"


_READS = frozenset({Permission.VIEW_USAGE, Permission.VIEW_BILLING})

PERMISSIONS: dict[str, frozenset[Permission]] = {
    Role.OWNER: frozenset(Permission),
    Role.ADMIN: frozenset(Permission),
    Role.BILLING: _READS | {Permission.MANAGE_BILLING},
    Role.DEVELOPER: _READS | {Permission.MANAGE_KEYS},
    Role.VIEWER: _READS,
}


class PermissionMissing(Exception):
    """The person belongs to the organization, but the role does not allow this."""

    def __init__(self, membership: Membership, permission: Permission) -> None:
        super().__init__(f"The role {membership.get_role_display()} may not {permission}.")
        self.membership = membership
        self.permission = permission


def may(membership: Membership, permission: Permission) -> bool:
    """Say whether the membership's role includes `permission`."""
    return permission in PERMISSIONS[membership.role]


def roles_that_may(permission: Permission) -> list[str]:
    """Return the names of the roles that include `permission`, the strongest first."""
    return [role.label for role in Role if permission in PERMISSIONS[role]]


def membership_of(user: User, organization_id: UUID) -> Membership:
    """Return the person's membership, its organization loaded; 404 alike for foreign and for missing ones."""
    memberships = Membership.objects.select_related("organization", "user")
    found = memberships.filter(user=user, organization__public_id=organization_id).first()
    if found is None:
        raise Http404("No such page.")
    return found


def authorize(user: User, organization_id: UUID, permission: Permission) -> Membership:
    """Return the membership if its role includes `permission`.

    Raises Http404 for an organization that is not the person's, PermissionMissing for a role that may not.
    """
    membership = membership_of(user, organization_id)
    if not may(membership, permission):
        raise PermissionMissing(membership, permission)
    return membership


def organizations_of(user: User) -> list[Organization]:
    """Return the person's organizations by name."""
    return list(Organization.objects.filter(memberships__user=user).order_by("name", "id"))
