"""A person signs up."""

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.test import Client

from accounts.models import TermsAcceptance, User
from tests.accounts.conftest import code_in_last_mail, text_of
from tests.conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.urls")]

SIGN_UP = "/accounts/signup/"
CONFIRM = "/accounts/confirm-email/"
FORM = {"name": "Erin Ek", "email": "Erin@New.example", "password1": "a long enough one", "terms": "on"}


def test_a_person_signs_up_with_a_code_from_an_e_mail(client: Client) -> None:
    assert client.get(SIGN_UP).status_code == 200
    answer = client.post(SIGN_UP, FORM)
    assert (answer.status_code, answer.url) == (302, CONFIRM)
    assert "erin@new.example" in text_of(client.get(CONFIRM))
    assert not client.session.get("_auth_user_id")
    answer = client.post(CONFIRM, {"code": code_in_last_mail()})
    assert (answer.status_code, answer.url) == (302, "/")
    erin = User.objects.get(email="erin@new.example")
    assert client.session["_auth_user_id"] == str(erin.pk)
    assert erin.name == "Erin Ek"
    assert EmailAddress.objects.get(user=erin).verified


def test_signing_up_keeps_which_terms_were_accepted_when(client: Client, settings: object) -> None:
    client.post(SIGN_UP, FORM)
    acceptance = TermsAcceptance.objects.get()
    assert acceptance.user.email == "erin@new.example"
    assert acceptance.organization is None
    assert acceptance.version == settings.TERMS_VERSION  # type: ignore[attr-defined]
    assert acceptance.accepted_at


@pytest.mark.parametrize("missing", ["name", "email", "password1", "terms"])
def test_every_field_is_needed(client: Client, missing: str) -> None:
    answer = client.post(SIGN_UP, {name: value for name, value in FORM.items() if name != missing})
    assert answer.status_code == 200
    assert missing in answer.context["form"].errors
    assert not User.objects.exists()


@pytest.mark.parametrize("password", ["short", "1234567890", "erin@new.example"])
def test_a_weak_password_is_refused_with_the_reason(client: Client, password: str) -> None:
    answer = client.post(SIGN_UP, FORM | {"password1": password})
    assert answer.context["form"].errors["password1"]
    assert not User.objects.exists()


def test_a_wrong_code_is_refused_and_the_third_ends_it(client: Client) -> None:
    client.post(SIGN_UP, FORM)
    for _ in range(2):
        answer = client.post(CONFIRM, {"code": "XXXX-XXXX"})
        assert "This code is not correct." in text_of(answer)
    answer = client.post(CONFIRM, {"code": "XXXX-XXXX"})
    assert answer.status_code == 302
    client.post(CONFIRM, {"code": code_in_last_mail()})
    assert not client.session.get("_auth_user_id")
    assert not EmailAddress.objects.filter(verified=True).exists()


def test_signing_up_with_a_taken_address_looks_like_any_other(client: Client, dana: User) -> None:
    new, taken = Client(), Client()
    answers = [
        sender.post(SIGN_UP, FORM | {"email": email})
        for sender, email in [(new, "erin@new.example"), (taken, dana.email)]
    ]
    assert {(answer.status_code, answer.url) for answer in answers} == {(302, CONFIRM)}
    pages = [
        text_of(sender.get(CONFIRM)).replace(email, "…")
        for sender, email in [(new, "erin@new.example"), (taken, dana.email)]
    ]
    assert pages[0] == pages[1]
    assert [message.to for message in mail.outbox] == [["erin@new.example"], [dana.email]]
    assert "already have" in mail.outbox[1].subject
    dana.refresh_from_db()
    assert dana.check_password(PASSWORD)
    assert User.objects.count() == 2


def test_the_terms_can_be_read_before_accepting_them(client: Client, settings: object) -> None:
    assert "/accounts/terms/" in client.get(SIGN_UP).content.decode()
    assert settings.TERMS_VERSION in text_of(client.get("/accounts/terms/"))  # type: ignore[attr-defined]
