"""Roles, and the owner who has to stay."""

import threading

import pytest
from django.db import connection

from accounts import members
from accounts.models import Membership, Organization, User
from tests.conftest import join

Role = Membership.Role


def role_of(user: User) -> str:
    return Membership.objects.get(user=user).role


def test_an_owner_gives_any_role(acme: Organization, alice: User, bob: User) -> None:
    owner, member = Membership.objects.get(user=alice), Membership.objects.get(user=bob)
    for role in [*Role, Role.VIEWER]:
        members.set_role(member, role=role, by=owner)
        assert role_of(bob) == member.role == role


def test_an_administrator_gives_every_role_but_owner(acme: Organization, bob: User, charlie: User) -> None:
    admin, member = join(acme, charlie, Role.ADMIN), Membership.objects.get(user=bob)
    members.set_role(member, role=Role.BILLING, by=admin)
    with pytest.raises(members.OwnersOnly):
        members.set_role(member, role=Role.OWNER, by=admin)
    assert role_of(bob) == Role.BILLING


def test_an_administrator_does_not_depose_an_owner(acme: Organization, alice: User, charlie: User) -> None:
    admin = join(acme, charlie, Role.ADMIN)
    join_second_owner = Membership.objects.get(user=alice)
    with pytest.raises(members.OwnersOnly):
        members.set_role(join_second_owner, role=Role.VIEWER, by=admin)
    assert role_of(alice) == Role.OWNER


def test_an_administrator_does_not_promote_himself(acme: Organization, charlie: User) -> None:
    admin = join(acme, charlie, Role.ADMIN)
    with pytest.raises(members.OwnersOnly):
        members.set_role(admin, role=Role.OWNER, by=admin)


def test_the_last_owner_stays_one(acme: Organization, alice: User) -> None:
    owner = Membership.objects.get(user=alice)
    members.set_role(owner, role=Role.OWNER, by=owner)
    with pytest.raises(members.LastOwner) as refusal:
        members.set_role(owner, role=Role.ADMIN, by=owner)
    assert refusal.value.membership == owner
    assert role_of(alice) == Role.OWNER


def test_an_owner_steps_down_once_there_is_another(acme: Organization, alice: User, bob: User) -> None:
    owner, member = Membership.objects.get(user=alice), Membership.objects.get(user=bob)
    members.set_role(member, role=Role.OWNER, by=owner)
    members.set_role(owner, role=Role.VIEWER, by=owner)
    assert (role_of(alice), role_of(bob)) == (Role.VIEWER, Role.OWNER)


def test_a_member_of_another_organization_gives_no_role(
    acme: Organization, other: Organization, bob: User, charlie: User
) -> None:
    stranger, member = Membership.objects.get(user=charlie), Membership.objects.get(user=bob)
    with pytest.raises(Membership.DoesNotExist):
        members.set_role(member, role=Role.ADMIN, by=stranger)


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_step_down_at_once_leave_one(acme: Organization, alice: User, bob: User) -> None:
    Membership.objects.update(role=Role.OWNER)
    barrier = threading.Barrier(2)
    refused: list[str] = []

    def step_down(user: User) -> None:
        own = Membership.objects.get(user=user)
        barrier.wait()
        try:
            members.set_role(own, role=Role.VIEWER, by=own)
        except members.LastOwner:
            refused.append(user.email)
        finally:
            connection.close()

    threads = [threading.Thread(target=step_down, args=[user]) for user in (alice, bob)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert Membership.objects.filter(role=Role.OWNER).count() == 1
