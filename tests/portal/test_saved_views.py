"""Saved views: what is kept, who sees it, who may change it, and that a deletion is taken back."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Membership
from billing_portal.portal import saved_views
from billing_portal.portal.models import SavedView
from tests.conftest import join
from tests.portal.test_pages import client, get, text_of

__all__ = ["client"]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _october(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)


@pytest.fixture
def log_in(make_user, acme):
    """Return a client of another member in a role."""

    def made(role):
        user = make_user(f"{role}@acme.example", name=role.title())
        join(acme, user, role)
        other = Client()
        other.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return other

    return made


def save(client, organization, name="Errors", query="days=7d&status=error", **fields):
    url = reverse("saved_view_new", args=[organization.public_id])
    return client.post(url, {"name": name, "query": query, **fields}, follow=True)


def post(client, route, view, **fields):
    return client.post(reverse(route, args=[view.organization.public_id, view.public_id]), fields, follow=True)


def test_a_list_is_saved_as_its_address_names_it_and_opens_again(client, acme):
    page = save(client, acme, query="?days=7d&status=error&cursor=abc&evil=%3Cscript%3E&product=".lstrip("?"))
    assert "Saved as Errors." in text_of(page)
    view = SavedView.objects.get()
    assert view.query == "days=7d&status=error"
    assert page.redirect_chain[0][0].endswith("?days=7d&status=error")
    content = page.content.decode()
    assert "Errors" in text_of(get(client, "calls", acme))
    assert content.count('aria-current="true"') >= 1


def test_days_of_a_name_move_and_others_stay(client, acme, now, monkeypatch):
    save(client, acme, "Week", "days=7d&from=2026-10-09&to=2026-10-15")
    save(client, acme, "Fixed", "from=2026-10-01&to=2026-10-07")
    assert dict(SavedView.objects.values_list("name", "query")) == {
        "Week": "days=7d",
        "Fixed": "from=2026-10-01&to=2026-10-07",
    }
    monkeypatch.setattr("accounts.clock.now", lambda: now + timedelta(days=3))
    assert "Oct 12, 2026 – Oct 18, 2026" in text_of(get(client, "calls", acme, days="7d"))


def test_a_view_is_its_owners_unless_it_is_shared(client, acme, log_in):
    save(client, acme, "Mine")
    save(client, acme, "Ours", is_shared="on")
    page = text_of(get(log_in(Membership.Role.VIEWER), "saved_views", acme))
    assert "Ours" in page
    assert "Mine" not in page
    assert "Alice Ames" in page


def test_others_change_a_shared_view_only_if_they_look_after_the_organization(client, acme, log_in):
    save(client, acme, "Ours", is_shared="on")
    save(client, acme, "Mine")
    ours, mine = SavedView.objects.get(name="Ours"), SavedView.objects.get(name="Mine")
    viewer, admin = log_in(Membership.Role.VIEWER), log_in(Membership.Role.ADMIN)
    for route in ("saved_view_change", "saved_view_delete"):
        assert post(viewer, route, ours, name="Theirs").status_code == 404
        assert post(admin, route, mine, name="Theirs").status_code == 404
    assert "Saved." in text_of(post(admin, "saved_view_change", ours, name="Everyone's", is_shared="on"))
    ours.refresh_from_db()
    assert (ours.name, ours.is_shared) == ("Everyone's", True)


def test_a_deletion_is_taken_back(client, acme, now, monkeypatch):
    save(client, acme)
    view = SavedView.objects.get()
    page = post(client, "saved_view_delete", view)
    assert "The view is deleted" in text_of(page)
    assert "Errors" not in text_of(get(client, "calls", acme))
    assert post(client, "saved_view_delete", view).status_code == 404
    assert "Errors is back." in text_of(post(client, "saved_view_restore", view))
    assert "Errors" in text_of(get(client, "calls", acme))
    post(client, "saved_view_delete", view)
    save(client, acme)
    assert "You have a view called Errors already" in text_of(post(client, "saved_view_restore", view))
    monkeypatch.setattr("accounts.clock.now", lambda: now + timedelta(days=2))
    post(client, "saved_view_delete", SavedView.objects.get(deleted_at=None))
    assert not SavedView.objects.filter(pk=view.pk).exists()


def test_a_name_is_taken_once_and_views_are_not_too_many(client, acme, monkeypatch):
    save(client, acme)
    assert "You have a view called Errors already" in text_of(save(client, acme))
    assert "Give the view a name" in text_of(save(client, acme, name=" "))
    monkeypatch.setattr(saved_views, "MOST", 1)
    assert "You have 1 views already" in text_of(save(client, acme, "Second"))
    assert SavedView.objects.count() == 1


@pytest.mark.parametrize("deleted", ["nonsense", "00000000-0000-0000-0000-000000000000"])
def test_a_strange_address_still_shows_the_page(client, acme, deleted):
    assert "No view yet" in text_of(get(client, "saved_views", acme, deleted=deleted))
