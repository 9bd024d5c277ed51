"""A person who forgot the password."""

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse

from accounts.models import User
from tests.accounts.conftest import code_in_last_mail, text_of

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.urls")]
RESET = "/accounts/password/reset/"


def test_a_forgotten_password_is_replaced_with_a_code(client: Client, dana: User) -> None:
    assert client.get(RESET).status_code == 200
    answer = client.post(RESET, {"email": dana.email}, follow=True)
    assert "Check your e-mail" in text_of(answer)
    confirm = reverse("account_confirm_password_reset_code")
    assert "This code is not correct." in text_of(client.post(confirm, {"code": "XXXX-XXXX"}))
    answer = client.post(confirm, {"code": code_in_last_mail()}, follow=True)
    assert "Choose a new password" in text_of(answer)
    new = {"password1": "another long one", "password2": "another long one"}
    answer = client.post(reverse("account_complete_password_reset"), new)
    assert answer.status_code == 302
    dana.refresh_from_db()
    assert dana.check_password("another long one")
    assert mail.outbox[-1].subject == "Your Parley Voice password was reset"


def test_an_unknown_address_looks_like_a_known_one(client: Client, dana: User) -> None:
    pages = []
    for email in [dana.email, "nobody@acme.example"]:
        answer = Client().post(RESET, {"email": email}, follow=True)
        pages.append(text_of(answer).replace(email, "…"))
    assert pages[0] == pages[1]
    assert mail.outbox[1].to == ["nobody@acme.example"]
    assert "No Parley Voice account" in mail.outbox[1].subject


def test_a_reset_does_not_get_around_the_second_factor(client: Client, sam: User, secret: str) -> None:
    client.post(RESET, {"email": sam.email})
    client.post(reverse("account_confirm_password_reset_code"), {"code": code_in_last_mail()})
    new = {"password1": "another long one", "password2": "another long one"}
    client.post(reverse("account_complete_password_reset"), new)
    assert not client.session.get("_auth_user_id")
