"""What every request asks is phrased once, and answers as the ORM does."""

from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.models import Session
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from accounts import access
from accounts.models import Membership, User
from accounts.phrased import Columns
from accounts.session_store import SessionStore
from tests.conftest import join

pytestmark = pytest.mark.django_db


def test_a_row_is_read_as_the_orm_reads_it(acme):
    columns = Columns(type(acme), "o")
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns.sql} FROM accounts_organization o WHERE o.id = %s", [acme.pk])
        found = columns.read(cursor.fetchone())
    known = type(acme).objects.get(pk=acme.pk)
    assert {name: value for name, value in vars(found).items() if name != "_state"} == {
        name: value for name, value in vars(known).items() if name != "_state"
    }
    assert (found._state.adding, found._state.db) == (False, "default")


def test_a_model_with_values_to_convert_is_refused():
    with pytest.raises(TypeError, match="data"):
        Columns(Authenticator, "a")


def test_a_person_is_found_by_the_key_as_by_any_other_condition(alice):
    assert User.objects.get(pk=alice.pk) == User.objects.get(email=alice.email) == alice
    assert vars(User.objects.get(pk=alice.pk)).keys() == vars(User.objects.get(email=alice.email)).keys()
    with pytest.raises(User.DoesNotExist):
        User.objects.get(pk=0)
    with pytest.raises(User.DoesNotExist):
        User.objects.get(pk=alice.pk, is_active=False)


def test_a_session_is_found_as_django_finds_it_and_not_once_it_has_expired(alice, client):
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    key = client.session.session_key
    assert dict(SessionStore(key).items()) == dict(DatabaseStore(key).items())
    assert SessionStore(key)[SESSION_KEY] == str(alice.pk)
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    gone = SessionStore(key)
    assert dict(gone.items()) == {}
    assert gone.session_key is None
    assert client.get(reverse("home")).url.startswith(reverse("account_login"))


def test_a_session_that_was_tampered_with_holds_nothing(alice, client):
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    Session.objects.update(session_data="made:up:data")
    assert dict(SessionStore(client.session.session_key or "").items()) == {}


def test_a_membership_comes_with_those_beside_it(acme, other, alice, bob):
    join(other, alice, Membership.Role.VIEWER)
    found = access.membership_of(alice, other.public_id)
    assert [each.organization for each in found.beside] == [acme, other]
    assert [each.role for each in found.beside] == [Membership.Role.OWNER, Membership.Role.VIEWER]
    assert {each.user for each in found.beside} == {alice}
