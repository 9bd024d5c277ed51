"""Staff need a second factor; nobody else gets in at all."""

from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from django.contrib import admin
from django.test import Client

from accounts import mfa
from accounts.admin_site import StaffSite
from accounts.models import User
from tests.accounts.conftest import text_of
from tests.conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.urls")]
LogIn = Callable[..., Client]
# Any page of the desk does; this one needs no template.
DESK = "/staff/jsi18n/"


def test_the_admin_is_the_guarded_one() -> None:
    assert isinstance(admin.site._wrapped if hasattr(admin.site, "_wrapped") else admin.site, StaffSite)


def test_the_anonymous_log_in_at_the_portal(client: Client) -> None:
    answer = client.get(DESK, follow=True)
    assert answer.redirect_chain[-1][0] == f"/accounts/login/?{urlencode({'next': DESK})}"


def test_the_desk_takes_no_password_of_its_own(client: Client, sam: User, secret: str) -> None:
    client.post("/staff/login/", {"username": sam.email, "password": PASSWORD})
    assert not client.session.get("_auth_user_id")


def test_customers_are_refused(log_in: LogIn, dana: User) -> None:
    assert log_in(dana).get(DESK, follow=True).status_code == 403


def test_staff_without_a_second_factor_are_sent_to_set_one_up(log_in: LogIn, sam: User) -> None:
    client = log_in(sam)
    assert client.get(DESK).status_code == 302
    answer = client.get(DESK, follow=True)
    assert answer.redirect_chain[-1][0] == "/accounts/2fa/"
    assert "The staff desk opens only with a second factor." in text_of(answer)


def test_staff_with_a_second_factor_get_in(log_in: LogIn, sam: User, secret: str) -> None:
    client = log_in(sam, secret=secret)
    assert client.get(DESK).status_code == 200


def test_a_session_older_than_the_second_factor_has_to_prove_it(log_in: LogIn, sam: User) -> None:
    client = log_in(sam)
    secret = mfa.new_secret()
    mfa.enroll_totp(sam, secret)
    answer = client.get(DESK, follow=True)
    assert answer.redirect_chain[-1][0] == f"/accounts/2fa/reauthenticate/?{urlencode({'next': DESK})}"
    answer = client.post("/accounts/2fa/reauthenticate/", {"code": mfa.current_code(secret), "next": DESK})
    assert answer.url == DESK
    assert client.get(DESK).status_code == 200


def test_a_removed_second_factor_shuts_the_desk(log_in: LogIn, sam: User, secret: str) -> None:
    client = log_in(sam, secret=secret)
    sam.authenticator_set.all().delete()
    assert client.get(DESK).status_code == 302


def test_a_session_without_any_log_in_record_is_refused(client: Client, sam: User, secret: str) -> None:
    client.force_login(sam)
    assert client.get(DESK).status_code == 302


def test_the_requirement_can_be_lifted_by_a_setting(client: Client, sam: User, settings: object) -> None:
    settings.STAFF_MFA_REQUIRED = False  # type: ignore[attr-defined]
    client.force_login(sam)
    assert client.get(DESK).status_code == 200
