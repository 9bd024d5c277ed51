"""People and their addresses."""

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth import authenticate
from django.db import IntegrityError, transaction

from accounts import people
from accounts.models import User

pytestmark = pytest.mark.django_db


def test_an_admitted_person_may_log_in_at_once() -> None:
    person = people.admit(email="Dana@Desk.example", password="a long enough one", name="Dana", is_staff=True)
    assert authenticate(None, username="dana@desk.example", password="a long enough one") == person
    assert person.is_staff
    assert EmailAddress.objects.get(user=person).verified


def test_admitting_twice_returns_the_same_person_unchanged() -> None:
    first = people.admit(email="dana@desk.example", password="a long enough one", name="Dana")
    assert people.admit(email="DANA@desk.example ", password="another one", name="Other") == first
    first.refresh_from_db()
    assert first.name == "Dana"
    assert first.check_password("a long enough one")


def test_one_mailbox_is_one_person() -> None:
    User.objects.create_user("erin@acme.example")
    with pytest.raises(IntegrityError, match="email"), transaction.atomic():
        User.objects.create_user("Erin@Acme.example")
    with pytest.raises(IntegrityError, match="user_email_is_in_lower_case"), transaction.atomic():
        User.objects.update(email="Erin@acme.example")
    assert User.objects.get_by_natural_key("ERIN@acme.example").email == "erin@acme.example"
