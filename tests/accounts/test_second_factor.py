"""A person protects the account with a second factor."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from urllib.parse import urlencode

import pytest
from django.core import mail
from django.test import Client

from accounts import mfa
from accounts.models import User
from tests.accounts.conftest import text_of
from tests.conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.urls")]
LogIn = Callable[..., Client]
ACTIVATE = "/accounts/2fa/totp/activate/"
DEACTIVATE = "/accounts/2fa/totp/deactivate/"
CODES = "/accounts/2fa/recovery-codes/"


@pytest.fixture
def enrolled(
    log_in: LogIn,
    confirm: Callable[[], None],
    dana: User,
    django_capture_on_commit_callbacks: Callable[..., AbstractContextManager],
) -> tuple[Client, str]:
    """Dana with an authenticator app, set up through the pages, and its secret."""
    client = log_in(dana)
    confirm()
    form = client.get(ACTIVATE).context["form"]
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post(ACTIVATE, {"code": mfa.current_code(form.secret)})
    assert (answer.status_code, answer.url) == (302, CODES)
    return client, form.secret


def test_setting_up_an_app_turns_it_on_and_shows_recovery_codes(enrolled: tuple[Client, str], dana: User) -> None:
    client, _ = enrolled
    assert mfa.is_enrolled(dana)
    page = client.get(CODES)
    assert len(page.context["unused_codes"]) == 10
    assert all(code in text_of(page) for code in page.context["unused_codes"])
    assert mail.outbox[0].subject == "An authenticator app was added to your Parley Voice account"
    assert "Authenticator app On" in text_of(client.get("/accounts/2fa/"))


def test_a_wrong_code_does_not_turn_the_app_on(log_in: LogIn, confirm: Callable[[], None], dana: User) -> None:
    client = log_in(dana)
    confirm()
    client.get(ACTIVATE)
    assert "This code is not correct." in text_of(client.post(ACTIVATE, {"code": "000000"}))
    assert not mfa.is_enrolled(dana)


def test_a_recovery_code_gets_in_once(enrolled: tuple[Client, str], dana: User) -> None:
    client, _ = enrolled
    code = client.get(CODES).context["unused_codes"][0]
    for expected in [302, 200]:
        elsewhere = Client()
        elsewhere.post("/accounts/login/", {"login": dana.email, "password": PASSWORD})
        assert elsewhere.post("/accounts/2fa/authenticate/", {"code": code}).status_code == expected


def test_recovery_codes_can_be_downloaded_and_replaced(enrolled: tuple[Client, str]) -> None:
    client, _ = enrolled
    old = client.get(CODES).context["unused_codes"]
    assert client.get(f"{CODES}download/").content.decode().split() == old
    assert "no longer work" in text_of(client.get(f"{CODES}generate/"))
    client.post(f"{CODES}generate/")
    assert not set(old) & set(client.get(CODES).context["unused_codes"])


def test_the_app_can_be_turned_off(enrolled: tuple[Client, str], dana: User) -> None:
    client, _ = enrolled
    assert "Turn off" in text_of(client.get(DEACTIVATE))
    assert client.post(DEACTIVATE).url == "/accounts/2fa/"
    assert not mfa.is_enrolled(dana)


def test_changing_factors_asks_who_it_is_first(log_in: LogIn, dana: User) -> None:
    client = log_in(dana)
    answer = client.get(ACTIVATE)
    assert answer.url == f"/accounts/reauthenticate/?{urlencode({'next': ACTIVATE})}"
    assert "Confirm that it is you" in text_of(client.get(answer.url))
    refused = client.post(answer.url, {"password": "not the password", "next": ACTIVATE})
    assert refused.context["form"].errors["password"]
    assert client.get(ACTIVATE).status_code == 302
    answer = client.post("/accounts/reauthenticate/", {"password": PASSWORD, "next": ACTIVATE})
    assert answer.url == ACTIVATE
    assert client.get(ACTIVATE).status_code == 200


def test_every_page_about_factors_opens(enrolled: tuple[Client, str]) -> None:
    client, _ = enrolled
    for page in ["", "webauthn/", "webauthn/add/", "reauthenticate/", "recovery-codes/"]:
        assert client.get(f"/accounts/2fa/{page}").status_code == 200, page
