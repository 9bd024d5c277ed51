"""Metadata keys on pages: chosen, counted, broken down by, and let go of."""

import re
from datetime import timedelta

import msgspec
import pytest
from django.urls import reverse

from billing_portal.ledger import accounts, settlement
from tests.billing import world
from tests.portal.test_pages import HTMX, client, get, text_of
from tests.usage.conftest import call_object
from usage import ingestion, metadata_usage, tasks
from usage.models import MetadataKey

__all__ = ["client"]
pytestmark = pytest.mark.django_db
LATER = timedelta(hours=3)


@pytest.fixture
def queued(monkeypatch):
    """Return what was asked of the worker, which runs only when a test lets it."""
    asked = []
    monkeypatch.setattr("usage.tasks.count_metadata.apply_async", lambda arguments, **_: asked.append(arguments[0]))
    return asked


@pytest.fixture
def busy(acme, now, monkeypatch):
    """Acme with thirty settled calls of three campaigns and ten without one."""
    monkeypatch.setattr("accounts.clock.now", lambda: now + LATER)
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)
    world.load_prices()
    accounts.open(organization=acme, now=now.replace(day=1))
    campaigns = ["spring", "autumn", "winter", ...]
    items = [
        call_object(
            f"call_{number}",
            start_timestamp=(now + timedelta(minutes=number)).isoformat(),
            end_timestamp=...,
            metadata=... if campaigns[number % 4] is ... else {"campaign": campaigns[number % 4], "tier": 1},
        )
        for number in range(40)
    ]
    ingestion.record([msgspec.json.encode(item) for item in items], now=now + LATER)
    settlement.settle_all(acme.pk, now=now + LATER)
    return acme


def choose(client, organization, key="campaign", months="1"):
    url = reverse("metadata_key_new", args=[organization.public_id])
    return client.post(url, {"key": key, "months": months}, follow=True)


def test_keys_of_the_newest_calls_are_offered_and_counted_by_a_worker(
    client, busy, queued, django_capture_on_commit_callbacks
):
    page = text_of(get(client, "metadata_keys", busy))
    assert "No key is counted yet" in page
    assert "campaign tier" in page
    with django_capture_on_commit_callbacks(execute=True):
        page = text_of(choose(client, busy))
    assert "Calls are being counted by campaign." in page
    key = MetadataKey.objects.get()
    assert (queued, str(key.starts_on)) == ([key.pk], "2026-09-01")
    url = reverse("metadata_keys", args=[busy.public_id])
    moving = client.get(url, **HTMX).content.decode()
    assert "every 2s" in moving
    assert "0.0%" in moving
    tasks.count_metadata(key.pk)
    done = client.get(url, **HTMX).content.decode()
    assert "every 2s" not in done
    assert "Up to date" in done


def test_a_breakdown_by_a_key_adds_up_also_while_it_is_counted(client, busy, queued):
    choose(client, busy)
    query = {"by": "metadata:campaign", "days": "month"}
    page = text_of(get(client, "usage", busy, **query))
    assert re.search(r"Not counted 40 [\d.]+ (\$[\d.]+) 100\.0%.*Total 40 [\d.]+ \1 100\.0%", page)
    tasks.count_metadata(MetadataKey.objects.get().pk)
    response = get(client, "usage", busy, **query)
    page = text_of(response)
    assert "Not counted" not in page
    for row in ("spring 10", "autumn 10", "winter 10", "No campaign 10", "Total 40"):
        assert row in page
    link = re.search(r'href="([^"]*usage/calls/[^"]*key=campaign[^"]*)"', response.content.decode())[1]
    listed = client.get(link.replace("&amp;", "&")).content.decode()
    assert len(re.findall(r"row-link-target", listed)) == 10


def test_days_before_the_first_counted_one_are_named(client, busy, queued):
    choose(client, busy)
    tasks.count_metadata(MetadataKey.objects.get().pk)
    page = text_of(get(client, "usage", busy, **{"by": "metadata:campaign", "from": "2026-08-01", "to": "2026-10-15"}))
    assert "Calls are counted by campaign from Sep 1, 2026 on" in page


def test_a_key_is_let_go_of_and_an_address_that_names_it_still_shows_a_page(client, busy, queued):
    choose(client, busy)
    url = reverse("metadata_key_remove", args=[busy.public_id])
    assert "no longer counted by campaign" in text_of(client.post(url, {"key": "campaign"}, follow=True))
    assert client.post(url, {"key": "campaign\0"}).status_code == 302
    assert "By component" in text_of(get(client, "usage", busy, by="metadata:campaign"))


@pytest.mark.parametrize(("key", "months"), [("", "1"), ("x" * 65, "1"), ("campaign", "99"), ("a\0b", "1")])
def test_what_is_no_key_is_refused_with_a_reason(client, busy, queued, key, months):
    page = choose(client, busy, key, months)
    assert page.status_code == 200
    assert MetadataKey.objects.count() == 0
    assert 'role="alert"' in page.content.decode()


def test_there_are_not_too_many_keys(client, busy, queued, monkeypatch):
    monkeypatch.setattr(metadata_usage, "MOST_KEYS", 1)
    choose(client, busy)
    assert "1 keys are counted already" in text_of(choose(client, busy, "tier"))
