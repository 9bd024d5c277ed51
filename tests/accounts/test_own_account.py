"""A person changes what belongs to herself: name, address, password, sessions."""

from collections.abc import Callable

import pytest
from django.core import mail
from django.test import Client

from accounts.models import User
from accounts.templatetags.account_pages import device
from tests.accounts.conftest import code_in_last_mail, text_of
from tests.conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.urls")]
LogIn = Callable[..., Client]


@pytest.mark.parametrize("page", ["profile/", "email/", "password/change/", "2fa/", "sessions/"])
def test_the_pages_are_for_people_who_are_logged_in(client: Client, log_in: LogIn, dana: User, page: str) -> None:
    url = f"/accounts/{page}"
    assert client.get(url).url == f"/accounts/login/?next={url}"
    assert log_in(dana).get(url).status_code == 200


def test_the_name_can_be_changed(log_in: LogIn, dana: User) -> None:
    answer = log_in(dana).post("/accounts/profile/", {"name": "Dana D."}, follow=True)
    assert "Your name is saved." in text_of(answer)
    dana.refresh_from_db()
    assert dana.name == "Dana D."


def test_a_new_address_counts_once_its_code_is_entered(log_in: LogIn, dana: User) -> None:
    client = log_in(dana)
    answer = client.post("/accounts/email/", {"email": "dana@new.example", "action_add": ""})
    assert answer.url == "/accounts/confirm-email/"
    assert mail.outbox[-1].to == ["dana@new.example"]
    dana.refresh_from_db()
    assert dana.email == "dana@acme.example"
    client.post(answer.url, {"code": code_in_last_mail()})
    dana.refresh_from_db()
    assert dana.email == "dana@new.example"
    told = {message.to[0]: message.subject for message in mail.outbox}
    assert told["dana@acme.example"] == "Your Parley Voice e-mail address was changed"


def test_an_address_of_somebody_else_is_not_taken_over(log_in: LogIn, dana: User, sam: User) -> None:
    client = log_in(dana)
    client.post("/accounts/email/", {"email": sam.email, "action_add": ""})
    client.post("/accounts/confirm-email/", {"code": code_in_last_mail()})
    dana.refresh_from_db()
    assert dana.email == "dana@acme.example"


def test_the_password_can_be_changed_with_the_old_one(log_in: LogIn, dana: User) -> None:
    client = log_in(dana)
    new = {"password1": "another long one", "password2": "another long one"}
    answer = client.post("/accounts/password/change/", new | {"oldpassword": "wrong"})
    assert answer.context["form"].errors["oldpassword"]
    client.post("/accounts/password/change/", new | {"oldpassword": PASSWORD})
    dana.refresh_from_db()
    assert dana.check_password("another long one")
    assert mail.outbox[-1].subject == "Your Parley Voice password was changed"
    assert "127.0.0.1" in mail.outbox[-1].body


def test_other_sessions_are_ended_and_this_one_stays(log_in: LogIn, dana: User) -> None:
    elsewhere = Client(headers={"User-Agent": "Firefox/140.0 (Linux)"})
    elsewhere.post("/accounts/login/", {"login": dana.email, "password": PASSWORD})
    client = log_in(dana)
    assert "Firefox on Linux" in text_of(client.get("/accounts/sessions/"))
    client.post("/accounts/sessions/")
    assert elsewhere.get("/accounts/profile/").status_code == 302
    assert client.get("/accounts/profile/").status_code == 200


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0 Safari/537.36", "Chrome on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit Chrome/156.0 Safari/537.36 Edg/156.0", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 15.0; rv:140.0) Firefox/140.0", "Firefox on macOS"),
        ("curl/8.0", "Unknown device"),
    ],
)
def test_a_device_is_named_as_people_name_it(user_agent: str, name: str) -> None:
    assert device(user_agent) == name
