"""A person logs in and out."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import time_machine
from django.test import Client

from accounts import mfa
from accounts.models import User
from tests.accounts.conftest import text_of
from tests.conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.urls")]

LOG_IN = "/accounts/login/"
SECOND = "/accounts/2fa/authenticate/"


def test_a_person_logs_in_and_goes_where_she_wanted(client: Client, dana: User) -> None:
    answer = client.post(f"{LOG_IN}?next=/accounts/profile/", {"login": dana.email, "password": PASSWORD})
    assert (answer.status_code, answer.url) == (302, "/accounts/profile/")
    assert client.session["_auth_user_id"] == str(dana.pk)


def test_the_case_of_the_address_does_not_matter(client: Client, dana: User) -> None:
    answer = client.post(LOG_IN, {"login": "DANA@Acme.example", "password": PASSWORD})
    assert answer.status_code == 302


def test_nobody_is_sent_to_another_site(client: Client, dana: User) -> None:
    answer = client.post(f"{LOG_IN}?next=https://evil.example/", {"login": dana.email, "password": PASSWORD})
    assert answer.url == "/"


def test_a_wrong_password_and_an_unknown_address_are_answered_alike(client: Client, dana: User) -> None:
    pages = []
    for email in [dana.email, "nobody@acme.example"]:
        answer = client.post(LOG_IN, {"login": email, "password": "not the password"})
        assert answer.status_code == 200
        pages.append(answer.context["form"].errors)
        assert "The e-mail address or the password is not correct." in text_of(answer)
    assert pages[0] == pages[1]


def test_an_inactive_account_is_refused(client: Client, dana: User) -> None:
    User.objects.update(is_active=False)
    client.post(LOG_IN, {"login": dana.email, "password": PASSWORD})
    assert not client.session.get("_auth_user_id")


def test_an_unverified_address_is_asked_for_its_code_first(client: Client, alice: User) -> None:
    answer = client.post(LOG_IN, {"login": alice.email, "password": PASSWORD})
    assert answer.url == "/accounts/confirm-email/"
    assert not client.session.get("_auth_user_id")


def test_guessing_is_slowed_down(client: Client, dana: User, settings: object) -> None:
    settings.ACCOUNT_RATE_LIMITS = {"login_failed": "3/5m/key"}  # type: ignore[attr-defined]
    for _ in range(3):
        client.post(LOG_IN, {"login": dana.email, "password": "not the password"})
    answer = client.post(LOG_IN, {"login": dana.email, "password": PASSWORD})
    assert "Too many attempts" in text_of(answer)
    assert not client.session.get("_auth_user_id")


def test_too_many_requests_get_a_plain_page(client: Client, settings: object) -> None:
    settings.ACCOUNT_RATE_LIMITS = {"login": "1/m/ip"}  # type: ignore[attr-defined]
    client.post(LOG_IN, {})
    answer = client.post(LOG_IN, {})
    assert answer.status_code == 429
    assert "wait a few minutes" in text_of(answer)


def test_a_second_factor_is_asked_after_the_password(client: Client, sam: User, secret: str) -> None:
    answer = client.post(LOG_IN, {"login": sam.email, "password": PASSWORD})
    assert answer.url == SECOND
    assert client.get(SECOND).status_code == 200
    assert not client.session.get("_auth_user_id")
    assert "This code is not correct." in text_of(client.post(SECOND, {"code": "000000"}))
    assert client.post(SECOND, {"code": mfa.current_code(secret)}).status_code == 302
    assert client.session["_auth_user_id"] == str(sam.pk)


def test_a_code_works_once(log_in: Callable[..., Client], sam: User, secret: str) -> None:
    with time_machine.travel(datetime.now(UTC), tick=False):
        log_in(sam, secret=secret)
        second = Client()
        second.post(LOG_IN, {"login": sam.email, "password": PASSWORD})
        answer = second.post(SECOND, {"code": mfa.current_code(secret)})
    assert answer.status_code == 200
    assert not second.session.get("_auth_user_id")


def test_logging_out_asks_first_and_ends_the_session(log_in: Callable[..., Client], dana: User) -> None:
    client = log_in(dana)
    assert "Log out?" in text_of(client.get("/accounts/logout/"))
    assert client.session.get("_auth_user_id")
    answer = client.post("/accounts/logout/")
    assert (answer.status_code, answer.url) == (302, LOG_IN)
    assert not client.session.get("_auth_user_id")
