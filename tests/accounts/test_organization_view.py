"""The door of an organization's pages."""

import re
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from accounts.access import Permission
from accounts.models import Membership, Organization, User
from tests.accounts.test_access import MATRIX
from tests.accounts.urls import settings_page
from tests.conftest import join

pytestmark = pytest.mark.urls("tests.accounts.urls")


def url_of(public_id: object) -> str:
    return reverse("settings_page", kwargs={"organization": public_id})


def test_the_view_finds_the_organization_and_the_membership(client: Client, acme: Organization, alice: User) -> None:
    client.force_login(alice)
    assert client.get(url_of(acme.public_id)).content == b"Acme Robotics, owner"


def test_the_anonymous_are_sent_to_log_in_and_come_back(client: Client, acme: Organization) -> None:
    url = url_of(acme.public_id)
    answer = client.get(url, {"tab": "time"})
    assert answer.status_code == 302
    assert answer.url == f"/accounts/login/?next={url}%3Ftab%3Dtime"


def test_a_fragment_asked_for_without_a_session_reloads_the_page(client: Client, acme: Organization) -> None:
    answer = client.get(url_of(acme.public_id), headers={"HX-Request": "true"})
    assert answer.status_code == 200
    assert answer["HX-Refresh"] == "true"
    assert answer.content == b""


def test_foreign_and_missing_are_the_same_404(
    client: Client, acme: Organization, other: Organization, charlie: User
) -> None:
    client.force_login(charlie)
    foreign, missing = client.get(url_of(acme.public_id)), client.get(url_of(uuid4()))
    assert foreign.status_code == missing.status_code == 404
    bodies = [re.sub(rb"[A-Za-z0-9]{64}", b"csrf-token", answer.content) for answer in (foreign, missing)]
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize("role", MATRIX)
def test_the_role_decides(client: Client, acme: Organization, charlie: User, role: str) -> None:
    join(acme, charlie, role)
    client.force_login(charlie)
    allowed = Permission.MANAGE_SETTINGS in MATRIX[role]
    assert client.get(url_of(acme.public_id)).status_code == (200 if allowed else 403)


def test_a_refused_role_learns_which_roles_may(client: Client, acme: Organization, charlie: User) -> None:
    join(acme, charlie, Membership.Role.VIEWER)
    client.force_login(charlie)
    page = client.get(url_of(acme.public_id)).content.decode()
    assert "Owner" in page
    assert "Administrator" in page
    assert "Viewer" in page


def test_a_guarded_view_names_its_permission_for_the_matrix() -> None:
    assert settings_page.permission == Permission.MANAGE_SETTINGS
