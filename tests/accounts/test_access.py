"""Who may do what."""

from uuid import uuid4

import pytest
from django.http import Http404

from accounts import access
from accounts.access import Permission
from accounts.models import Membership, Organization, User
from tests.conftest import join

READS = {Permission.VIEW_USAGE, Permission.VIEW_BILLING}
# The whole matrix, written out: a change of a role is a change of this table.
MATRIX = {
    "owner": READS
    | {
        Permission.MANAGE_BILLING,
        Permission.MANAGE_KEYS,
        Permission.MANAGE_SETTINGS,
        Permission.MANAGE_MEMBERS,
    },
    "admin": READS
    | {
        Permission.MANAGE_BILLING,
        Permission.MANAGE_KEYS,
        Permission.MANAGE_SETTINGS,
        Permission.MANAGE_MEMBERS,
    },
    "billing": READS | {Permission.MANAGE_BILLING},
    "developer": READS | {Permission.MANAGE_KEYS},
    "viewer": READS,
}


def test_the_matrix_knows_every_role() -> None:
    assert set(MATRIX) == set(access.Role.values) == set(access.PERMISSIONS)


@pytest.mark.parametrize("permission", Permission)
@pytest.mark.parametrize("role", MATRIX)
def test_a_role_may_exactly_what_the_matrix_says(
    acme: Organization, charlie: User, role: str, permission: Permission
) -> None:
    membership = join(acme, charlie, role)
    if permission in MATRIX[role]:
        assert access.authorize(charlie, acme.public_id, permission) == membership
    else:
        with pytest.raises(access.PermissionMissing) as refusal:
            access.authorize(charlie, acme.public_id, permission)
        assert refusal.value.membership == membership
        assert refusal.value.permission == permission


def test_a_foreign_and_a_missing_organization_are_refused_alike(acme: Organization, charlie: User) -> None:
    refusals = []
    for public_id in [acme.public_id, uuid4()]:
        with pytest.raises(Http404) as refusal:
            access.authorize(charlie, public_id, Permission.VIEW_USAGE)
        refusals.append(str(refusal.value))
    assert refusals[0] == refusals[1]


def test_authorizing_takes_one_query(acme: Organization, alice: User, django_assert_num_queries: object) -> None:
    with django_assert_num_queries(1):  # type: ignore[operator]
        membership = access.authorize(alice, acme.public_id, Permission.MANAGE_MEMBERS)
        assert membership.organization.name == "Acme Robotics"


def test_the_roles_that_may_are_named_for_people() -> None:
    assert access.roles_that_may(Permission.MANAGE_BILLING) == ["Owner", "Administrator", "Billing manager"]


def test_a_person_sees_own_organizations_only_by_name(acme: Organization, other: Organization, alice: User) -> None:
    assert access.organizations_of(alice) == [acme]
    join(other, alice, Membership.Role.VIEWER)
    assert access.organizations_of(alice) == [acme, other]
