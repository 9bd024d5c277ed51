"""People with a verified address, and what they do in a browser's stead."""

import re
from collections.abc import Callable

import pytest
from django.core import mail
from django.test import Client

from accounts import mfa, people
from accounts.models import User
from tests.conftest import PASSWORD


@pytest.fixture
def dana(db: None) -> User:
    """A customer with a verified address and nothing else."""
    return people.admit(email="dana@acme.example", password=PASSWORD, name="Dana Dorn")


@pytest.fixture
def sam(db: None) -> User:
    """Of the staff, without a second factor yet."""
    sam = people.admit(email="sam@desk.example", password=PASSWORD, name="Sam Stone", is_staff=True)
    sam.is_superuser = True
    sam.save()
    return sam


@pytest.fixture
def secret(sam: User) -> str:
    """The secret of Sam's authenticator app."""
    secret = mfa.new_secret()
    mfa.enroll_totp(sam, secret)
    return secret


@pytest.fixture
def log_in(client: Client) -> Callable[..., Client]:
    """Log in through the pages; with a secret, also past the second factor."""

    def call(user: User, *, secret: str | None = None, password: str = PASSWORD) -> Client:
        answer = client.post("/accounts/login/", {"login": user.email, "password": password})
        assert answer.status_code == 302, answer.content.decode()
        if secret is not None:
            assert answer.url == "/accounts/2fa/authenticate/"
            answer = client.post(answer.url, {"code": mfa.current_code(secret)})
            assert answer.status_code == 302, answer.content.decode()
        return client

    return call


@pytest.fixture
def confirm(client: Client) -> Callable[[], None]:
    """Enter the password again, as changes to factors ask."""

    def call() -> None:
        answer = client.post("/accounts/reauthenticate/", {"password": PASSWORD})
        assert answer.status_code == 302, answer.content.decode()

    return call


def code_in_last_mail() -> str:
    """Return the code of the e-mail sent last."""
    found = re.search(r"^ {4}(\S+)$", mail.outbox[-1].body, re.MULTILINE)
    assert found, mail.outbox[-1].body
    return found.group(1)


def text_of(answer: object) -> str:
    """Return a page's words, its markup and its runs of white space taken away."""
    html = answer.content.decode()  # type: ignore[attr-defined]
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())
