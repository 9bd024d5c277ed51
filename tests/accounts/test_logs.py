"""The log canary: what is secret or personal appears in no line, whatever goes wrong."""

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from django.test import Client
from django.urls import reverse

from accounts import api_keys, mfa
from accounts.models import ApiKey, Organization, User
from tests.accounts.conftest import code_in_last_mail
from tests.conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.urls")]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture) -> Iterator[Callable[[], str]]:
    """Everything that is logged or printed, at the most talkative level."""
    caplog.set_level(logging.DEBUG)

    def read() -> str:
        records = [f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records]
        printed = capfd.readouterr()
        return "\n".join([*records, printed.out, printed.err])

    logging.getLogger("django.db.backends").setLevel(logging.INFO)  # statements are no log of ours
    yield read
    logging.getLogger("django.db.backends").setLevel(logging.NOTSET)


def test_no_key_is_logged(client: Client, acme: Organization, lines: Callable[[], str]) -> None:
    key, good = api_keys.issue(organization=acme, name="Test", scopes=["usage:read"], now=datetime.now(UTC))
    bad = ApiKey.new_secret(vendor=False)
    body = json.dumps({"name": "one", "quantities": [1]})
    for secret in [good, bad]:
        headers = {"Authorization": f"Bearer {secret}"}
        client.post("/api/v1/orders", body, content_type="application/json", headers=headers)
        client.post("/api/v1/orders", "{", content_type="application/json", headers=headers)
    client.raise_request_exception = False
    client.get("/api/v1/fault", headers={"Authorization": f"Bearer {good}"})
    logged = lines()
    assert "/api/v1/orders" in logged
    assert "secret detail" in logged  # the fault itself is there
    for secret in [good, bad, good.removeprefix(key.prefix), key.digest.hex()]:
        assert secret not in logged


def test_no_address_password_or_code_is_logged(
    client: Client, dana: User, sam: User, secret: str, lines: Callable[[], str]
) -> None:
    wrong = "not the password 9313"
    form = {"name": "Erin Ek", "email": "erin@new.example", "password1": "a long enough one", "terms": "on"}
    client.post("/accounts/signup/", form)
    secrets = ["erin@new.example", "a long enough one", code_in_last_mail()]
    client.post("/accounts/confirm-email/", {"code": "XXXX-XXXX"})
    client.post("/accounts/confirm-email/", {"code": secrets[-1]})
    client.post("/accounts/logout/")
    client.post("/accounts/login/", {"login": dana.email, "password": wrong})
    client.post("/accounts/login/", {"login": "nobody@acme.example", "password": wrong})
    client.post("/accounts/login/", {"login": sam.email, "password": PASSWORD})
    code = mfa.current_code(secret)
    client.post("/accounts/2fa/authenticate/", {"code": code})
    client.post("/accounts/logout/")
    client.post("/accounts/password/reset/", {"email": dana.email})
    reset_code = code_in_last_mail()
    client.post(reverse("account_confirm_password_reset_code"), {"code": reset_code})
    logged = lines()
    assert "/accounts/login/" in logged
    for canary in [
        *secrets,
        dana.email,
        sam.email,
        "nobody@acme.example",
        wrong,
        PASSWORD,
        secret,
        reset_code,
    ]:
        assert canary not in logged
