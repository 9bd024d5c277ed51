"""Who may do what: the five roles, and the one way to load an organization for a person."""

from enum import StrEnum
from uuid import UUID

from django.db import connection
from django.http import Http404

from accounts.models import Membership, Organization, User
from accounts.phrased import Columns

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


_MEMBERSHIP, _ORGANIZATION = Columns(Membership, "m"), Columns(Organization, "o")
_MEMBERSHIPS = f"""
    SELECT {_MEMBERSHIP.sql}, {_ORGANIZATION.sql}
    FROM accounts_membership m JOIN accounts_organization o ON o.id = m.organization_id
    WHERE m.user_id = %s ORDER BY o.name, o.id"""  # noqa: S608 - the columns are models'


def memberships_of(user: User) -> list[Membership]:
    """Return the person's memberships by the names of their organizations, which are loaded."""
    with connection.cursor() as cursor:
        cursor.execute(_MEMBERSHIPS, [user.pk])
        rows = cursor.fetchall()
    found = []
    for row in rows:
        membership = _MEMBERSHIP.read(row[: _MEMBERSHIP.count])
        membership.organization = _ORGANIZATION.read(row[_MEMBERSHIP.count :])
        membership.user = user
        found.append(membership)
    return found


def membership_of(user: User, organization_id: UUID) -> Membership:
    """Return the person's membership with all of `beside`; 404 alike for foreign and for missing organizations."""
    memberships = memberships_of(user)
    for membership in memberships:
        if membership.organization.public_id == organization_id:
            membership.beside = memberships
            return membership
    raise Http404("No such page.")


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
    return [membership.organization for membership in memberships_of(user)]
