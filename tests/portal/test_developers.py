"""The developer page: keys are made, scoped, rotated, expired and revoked, and each secret is shown once."""

import logging
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from accounts import api_keys
from accounts.models import ApiKey, Membership, Organization
from tests.conftest import join
from tests.portal.test_pages import text_of

pytestmark = pytest.mark.django_db
SECRET = re.compile(r"bp_org_[\w-]{43}")


@pytest.fixture(autouse=True)
def clock(monkeypatch, now):
    """The domain's clock, which tests move by hand."""
    hands = {"now": now}
    monkeypatch.setattr("accounts.clock.now", lambda: hands["now"])
    return hands


@pytest.fixture
def client(alice) -> Client:
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def key(acme, alice, now) -> ApiKey:
    return api_keys.issue(organization=acme, name="Nightly export", scopes=["usage:read"], now=now, by=alice)[0]


def address(name: str, organization: Organization, *more: object) -> str:
    return reverse(name, args=[organization.public_id, *more])


def filled(client: Client, url: str, **fields: object) -> dict[str, object]:
    """Return a form's fields as a browser would send them, some of them changed."""
    form = client.get(url).context["form"]
    initial = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    return {name: value for name, value in {**initial, **fields}.items() if value is not None}


def make(client: Client, organization: Organization, **fields: object):
    url = address("developer_key_new", organization)
    return client.post(url, filled(client, url, **{"name": "Nightly export", **fields}))


def rotate(client: Client, key: ApiKey, **fields: object):
    url = address("developer_key_rotate", key.organization, key.public_id)
    return client.post(url, filled(client, url, **fields))


def ask(secret: str) -> int:
    return Client(headers={"authorization": f"Bearer {secret}"}).get("/api/v1/usage").status_code


def secret_in(response) -> str:
    found = SECRET.findall(response.content.decode())
    assert found
    return found[0]


# ── Make ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_key_the_page_says_what_to_do(client, acme):
    page = client.get(address("developers", acme))
    assert "No key works at the moment" in text_of(page)
    assert address("developer_key_new", acme) in page.content.decode()


def test_a_secret_is_shown_once_on_the_page_that_made_it(client, acme, caplog):
    caplog.set_level(logging.DEBUG)
    made = make(client, acme)
    assert made.status_code == 200
    assert "no-store" in made["Cache-Control"]
    secret = secret_in(made)
    assert ask(secret) == 200
    key = ApiKey.objects.get()
    random = secret.removeprefix(key.prefix)
    assert random not in f"{made.headers} {made.cookies} {dict(client.session)}"
    assert "api_key_issued" in caplog.text
    assert random not in caplog.text
    for name, more in [("developers", []), ("developer_key", [key.public_id]), ("overview", [])]:
        page = client.get(address(name, acme, *more))
        assert random not in page.content.decode()
    assert "Nightly export" in text_of(client.get(address("developers", acme)))


def test_f27_a_double_submit_makes_one_key_and_leads_to_it(client, acme):
    url = address("developer_key_new", acme)
    form = filled(client, url, name="Nightly export")
    assert client.post(url, form).status_code == 200
    again = client.post(url, form, follow=True)
    key = ApiKey.objects.get()
    assert again.redirect_chain == [(address("developer_key", acme, key.public_id), 302)]
    assert "rotate this key" in text_of(again)
    assert not SECRET.search(again.content.decode())


@pytest.mark.parametrize(("expires", "days"), [("30", 30), ("90", 90), ("365", 365), ("never", None)])
def test_a_key_expires_when_it_was_chosen_to(client, acme, now, expires, days):
    make(client, acme, expires=expires)
    assert ApiKey.objects.get().expires_at == (days and now + timedelta(days=days))


def test_a_typed_time_is_the_organization_s_time(client, acme):
    acme.time_zone = "Europe/Berlin"
    acme.save()
    make(client, acme, expires="at", expires_at="2026-12-01T08:30")
    key = ApiKey.objects.get()
    assert key.expires_at == datetime(2026, 12, 1, 7, 30, tzinfo=UTC)
    page = client.get(address("developer_key", acme, key.public_id))
    assert 'value="2026-12-01T08:30"' in page.content.decode()
    assert "Dec 1, 2026, 08:30" in text_of(page)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"scopes": []}, "Choose at least one."),
        ({"scopes": ["calls:write"]}, "calls:write is not one of the available choices"),
        ({"name": " "}, "This field is required."),
        ({"expires": "at"}, "Choose a time."),
        ({"expires": "at", "expires_at": "2026-10-15T09:30"}, "This time is past."),
        ({"expires": "at", "expires_at": "soon"}, "Enter a valid date/time."),
    ],
)
def test_a_form_that_is_not_right_says_so_and_makes_nothing(client, acme, fields, says):
    answer = make(client, acme, **fields)
    assert says in text_of(answer)
    assert not ApiKey.objects.exists()


def test_too_many_keys_are_refused_with_the_way_out(client, acme, monkeypatch):
    monkeypatch.setattr(api_keys, "MAX_USABLE", 1)
    make(client, acme)
    assert "Revoke one" in text_of(make(client, acme))
    assert ApiKey.objects.count() == 1


# ── Scope, expire, revoke ─────────────────────────────────────────────────────────────────────────────────────────────


def test_scopes_and_end_change_from_the_next_request_on(client, acme, now):
    secret = secret_in(make(client, acme))
    key = ApiKey.objects.get()
    url = address("developer_key", acme, key.public_id)
    assert client.post(url, filled(client, url, scopes=["billing:read"])).status_code == 302
    assert ask(secret) == 403
    form = filled(client, url, scopes=["usage:read"], expires_at="2026-10-15T10:00")
    assert client.post(url, form).status_code == 302
    assert ask(secret) == 200
    key.refresh_from_db()
    assert key.expires_at == now + timedelta(minutes=30)


def test_a_revoked_key_is_refused_on_the_next_request(client, acme):
    secret = secret_in(make(client, acme))
    assert ask(secret) == 200
    key = ApiKey.objects.get()
    answer = client.post(address("developer_key_revoke", acme, key.public_id), follow=True)
    assert ask(secret) == 401
    assert "No key works at the moment" in text_of(answer)
    assert "Revoked" in text_of(answer)
    assert "cannot be brought back" in text_of(client.get(address("developer_key", acme, key.public_id)))


def test_an_expired_key_cannot_be_changed(client, acme, key, now):
    url = address("developer_key", acme, key.public_id)
    form = filled(client, url, expires_at=None)
    ApiKey.objects.update(expires_at=now)
    assert "Make a new key instead" in text_of(client.post(url, form, follow=True))
    key.refresh_from_db()
    assert key.expires_at == now


# ── Rotate ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_both_secrets_work_until_the_chosen_time(client, acme, clock, now):
    old = secret_in(make(client, acme))
    rotated = rotate(client, ApiKey.objects.get(), old_until="24")
    new = secret_in(rotated)
    assert "Oct 16, 2026, 09:30" in text_of(rotated)
    assert (ask(old), ask(new)) == (200, 200)
    page = text_of(client.get(address("developers", acme)))
    assert "Being replaced" in page
    clock["now"] = now + timedelta(hours=24)
    assert (ask(old), ask(new)) == (401, 200)
    assert "Replaced" in text_of(client.get(address("developers", acme)))


def test_a_rotation_without_overlap_says_that_the_old_secret_is_dead(client, acme):
    old = secret_in(make(client, acme))
    assert "does not work any more" in text_of(rotate(client, ApiKey.objects.get(), old_until="0"))
    assert ask(old) == 401


def test_f27_a_rotation_sent_twice_makes_one_successor(client, acme, key):
    url = address("developer_key_rotate", acme, key.public_id)
    form = filled(client, url, old_until="0")
    assert client.post(url, form).status_code == 200
    again = client.post(url, form, follow=True)
    assert "has been made already" in text_of(again)
    assert ApiKey.objects.count() == 2


def test_a_key_is_rotated_once(client, acme, key):
    rotate(client, key)
    answer = client.post(
        (url := address("developer_key_rotate", acme, key.public_id)), filled(client, url), follow=True
    )
    assert "Rotate that one" in text_of(answer)
    assert ApiKey.objects.count() == 2


# ── Who, and how it reads ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("role", Membership.Role.values)
def test_only_those_who_may_find_the_way_there(acme, make_user, role):
    user = make_user(f"{role}@acme.example")
    join(acme, user, role)
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    may = role in {"owner", "admin", "developer"}
    assert (address("developers", acme) in client.get(address("settings", acme)).content.decode()) is may
    assert client.get(address("developers", acme)).status_code == (200 if may else 403)


def test_the_page_explains_scopes_and_shows_a_request_to_start_from(client, acme, key):
    page = client.get(address("developers", acme))
    text = text_of(page)
    assert "Calls, each with its price line by line" in text
    assert f"Authorization: Bearer {key.prefix}…" in page.content.decode().replace("&quot;", '"')
    for name in ("api-docs", "api-schema"):
        assert f'href="{reverse(name)}"' in page.content.decode()
        assert client.get(reverse(name)).status_code == 200


def test_the_vendor_s_people_are_not_named(client, acme, make_user, now, settings):
    staff = make_user("robin@vendor.example", name="Robin Support", is_staff=True)
    api_keys.issue(organization=acme, name="By support", scopes=["usage:read"], now=now, by=staff)
    text = text_of(client.get(address("developers", acme)))
    assert settings.VENDOR_NAME in text
    assert "Robin" not in text


def test_the_list_asks_the_database_a_fixed_number_of_times(client, acme, now, django_assert_max_num_queries):
    for number in range(30):
        api_keys.issue(organization=acme, name=f"Key {number}", scopes=["usage:read"], now=now)
    with django_assert_max_num_queries(14):
        client.get(address("developers", acme))
