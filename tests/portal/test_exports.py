"""Exports on the pages: what is offered, what comes at once, what comes by mail, and for whom."""

import csv
import io
from datetime import timedelta

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse

from accounts.models import Membership
from billing_portal.ledger import accounts, settlement
from billing_portal.portal import export_links, tasks
from tests.billing import world
from tests.portal.test_pages import text_of
from usage.exports import formats, jobs
from usage.models import Export

pytestmark = pytest.mark.django_db
LATER = timedelta(hours=3)


@pytest.fixture(autouse=True)
def _three_hours_later(monkeypatch, now, settings, tmp_path):
    settings.EXPORTS_DIR = tmp_path / "exports"
    monkeypatch.setattr("accounts.clock.now", lambda: now + LATER)
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


@pytest.fixture
def busy(acme, now):
    world.load_prices()
    accounts.open(organization=acme, now=now.replace(day=1))
    world.record_calls(acme, 10, starts_at=now, now=now + LATER)
    settlement.settle_all(acme.pk, now=now + LATER)
    return acme


@pytest.fixture
def client(alice) -> Client:
    return logged_in(alice)


@pytest.fixture
def all_large(monkeypatch):
    """Every file is too large to be answered at once."""
    monkeypatch.setattr("billing_portal.portal.export_list.is_at_once", lambda chosen, count: False)


def logged_in(user) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def address(name, organization, *parts):
    return reverse(name, args=[organization.public_id, *parts])


def ask(client, organization, name="csv", **fields):
    return client.post(address("export_new", organization), {"format": name, **fields})


def test_the_list_leads_to_the_export_of_what_it_shows(client, busy):
    page = client.get(address("calls", busy), {"from": "2026-10-15", "to": "2026-10-15", "call_id": "call_1_3"})
    link = f"{address('exports', busy)}?from=2026-10-15&amp;to=2026-10-15&amp;call_id=call_1_3"
    assert link in page.content.decode()
    text = text_of(client.get(link.replace("&amp;", "&")))
    assert "Calls 1" in text
    assert "Call id begins with call_1_3" in text
    response = ask(client, busy, **{"from": "2026-10-15", "to": "2026-10-15", "call_id": "call_1_3"})
    rows = list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode())))
    assert [row["call_id"] for row in rows] == ["call_1_3"]


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_small_file_comes_at_once(name, client, busy):
    response = ask(client, busy, name)
    assert response.headers["Content-Type"] == formats.FORMATS[name].content_type
    kind = "focus" if name == "focus" else "calls"
    expected = f'attachment; filename="acme-{kind}-2026-09-16-2026-10-15.{formats.FORMATS[name].extension}"'
    assert response.headers["Content-Disposition"] == expected
    assert len(b"".join(response.streaming_content)) > 500
    assert not Export.objects.exists()


def test_a_large_file_is_written_and_a_mail_brings_its_link(
    client, busy, all_large, django_capture_on_commit_callbacks, now
):
    with django_capture_on_commit_callbacks(execute=True):
        page = ask(client, busy)
        assert page.status_code == 302
    export = Export.objects.get()
    assert (export.state, export.rows_done, export.expires_at) == ("ready", 10, now + LATER + timedelta(days=7))
    [message] = mail.outbox
    assert message.to == ["alice@acme.example"]
    assert message.subject == "Your export of Acme Robotics is ready"
    [link] = [line for line in message.body.splitlines() if "/exports/" in line]
    fetched = client.get(link.partition("8000")[2])
    written = b"".join(fetched.streaming_content)
    assert written == jobs.path_of(export).read_bytes()
    assert fetched.headers["Content-Disposition"].startswith('attachment; filename="acme-calls-')
    own = client.get(address("export_file", busy, export.public_id))
    assert b"".join(own.streaming_content) == written
    text = text_of(client.get(address("exports", busy)))
    assert "acme-calls-2026-09-16-2026-10-15.csv" in text
    assert "Ready" in text


@pytest.fixture
def ready(client, busy, all_large, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        ask(client, busy)
    return Export.objects.get()


def test_a_link_asks_for_a_log_in_and_ends_with_its_time_and_the_membership(
    ready, client, bob, other, charlie, alice, monkeypatch
):
    path = reverse("export_link", args=[export_links.token_of(ready)])

    def status(client, path=path):
        response = client.get(path)
        if response.streaming:
            assert list(response.streaming_content)
        return response.status_code

    assert Client().get(path).url.startswith("/accounts/login/")
    assert [status(client), status(logged_in(bob)), status(logged_in(charlie))] == [200, 200, 404]
    assert status(client, path[:-2] + "x/") == 404
    assert status(client, reverse("export_link", args=["nothing"])) == 404
    Membership.objects.filter(user=alice).delete()
    assert status(client) == 404
    monkeypatch.setattr("accounts.clock.now", lambda: ready.expires_at)
    assert status(logged_in(bob)) == 404


def test_i16_another_organizations_export_is_missing(ready, other, charlie):
    client = logged_in(charlie)
    for organization in (other, ready.organization):
        for name, method in (("export_file", client.get), ("export_cancel", client.post)):
            assert method(address(name, organization, ready.public_id)).status_code == 404
    ready.refresh_from_db()
    assert ready.state == "ready"


def test_an_export_under_way_shows_its_progress_and_can_be_cancelled(client, busy, all_large):
    ask(client, busy)  # not committed, so no worker has it
    export = Export.objects.get()
    page = client.get(address("exports", busy))
    assert 'hx-trigger="every 2s"' in page.content.decode()
    assert "<progress" in page.content.decode()
    fragment = client.get(address("exports", busy), headers={"hx-request": "true"})
    assert "<html" not in fragment.content.decode()
    client.post(address("export_cancel", busy, export.public_id))
    fragment = client.get(address("exports", busy), headers={"hx-request": "true"})
    assert "Cancelled" in text_of(fragment)
    assert "every 2s" not in fragment.content.decode()


def test_what_a_worker_lost_is_found_again(client, busy, all_large, django_capture_on_commit_callbacks):
    ask(client, busy)
    with django_capture_on_commit_callbacks(execute=True):
        tasks.continue_exports()
    assert Export.objects.get().state == "ready"
    assert len(mail.outbox) == 1


def test_a_fourth_export_and_an_unknown_format_are_refused_in_words(client, busy, all_large):
    for _ in range(jobs.MOST_UNDER_WAY):
        ask(client, busy)
    page = client.post(address("export_new", busy), {"format": "csv"}, follow=True)
    assert "Wait for one" in page.content.decode()
    page = client.post(address("export_new", busy), {"format": "doc"}, follow=True)
    assert "Choose one of the formats" in page.content.decode()
    assert Export.objects.count() == jobs.MOST_UNDER_WAY


def test_the_page_asks_few_queries_whatever_was_exported(client, busy, all_large, django_assert_max_num_queries):
    for _ in range(3):
        ask(client, busy)
    with django_assert_max_num_queries(14):
        client.get(address("exports", busy))
