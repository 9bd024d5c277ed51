"""Sessions are noted once a minute, and at once when they look different."""

import pytest
from allauth.usersessions.models import UserSession
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts import queueing

pytestmark = pytest.mark.django_db


@pytest.fixture
def signed_in(client, alice):
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return client


def notes(client, **headers):
    with CaptureQueriesContext(connection) as queries:
        assert client.get(reverse("usersessions_list"), headers=headers).status_code == 200
    return sum('UPDATE "usersessions_usersession"' in query["sql"] for query in queries)


def test_a_session_is_noted_once_a_minute(signed_in):
    assert notes(signed_in) in (0, 1)  # made, or noted, by the first request
    assert UserSession.objects.count() == 1
    assert [notes(signed_in) for _ in range(3)] == [0, 0, 0]


def test_another_browser_is_noted_at_once(signed_in):
    notes(signed_in, user_agent="Firefox")
    assert notes(signed_in, user_agent="Chromium") == 1
    assert UserSession.objects.get().user_agent == "Chromium"


def test_without_the_cache_every_request_is_noted(signed_in, monkeypatch):
    notes(signed_in)
    monkeypatch.setattr(queueing._Broker, "away_until", float("inf"))
    assert [notes(signed_in) for _ in range(2)] == [1, 1]
