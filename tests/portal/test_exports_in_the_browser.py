"""Exports in Chromium: the page is sound at every width, a file comes down, and progress shows without a reload."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from accounts.models import Organization
from billing_portal.ledger import accounts, settlement
from tests import looks
from tests.billing import world
from usage.calls import Filters
from usage.exports import jobs
from usage.exports.selection import Selection
from usage.models import Export

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
LATER = timedelta(hours=3)


@pytest.fixture
def busy(acme, alice, now, monkeypatch, settings, tmp_path) -> Organization:
    """Acme with ten calls, a file that is ready, and one under way."""
    settings.EXPORTS_DIR = tmp_path / "exports"
    monkeypatch.setattr("accounts.clock.now", lambda: now + LATER)
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)
    world.load_prices()
    accounts.open(organization=acme, now=now.replace(day=1))
    world.record_calls(acme, 10, starts_at=now, now=now + LATER)
    settlement.settle_all(acme.pk, now=now + LATER)
    filters = Filters(starts_at=now.replace(day=1), ends_at=now + LATER)
    for name in ("parquet", "csv"):
        asked = jobs.ask(organization=acme, by=alice, name=name, filters=filters, calls=2_412_077, now=now)
        if name == "parquet":
            jobs.write(asked.pk, selection_of=Selection, tell=lambda export: None, clock=lambda: now)
        else:
            Export.objects.filter(pk=asked.pk).update(state="writing", rows_done=900_000, bytes_done=297_000_000)
    return acme


def opened(chromium: Browser, address: str, user, organization, *, width=1360, theme="light") -> Page:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, accept_downloads=True)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": address}])
    page = context.new_page()
    page.goto(address + reverse("exports", args=[organization.public_id]) + "?product=platform")
    return page


@looks.of_page
def test_the_page_is_sound(chromium, live_server, alice, busy, width, theme):
    page = opened(chromium, live_server.url, alice, busy, width=width, theme=theme)
    complaints: list[str] = []
    page.on("console", lambda message: message.type in {"error", "warning"} and complaints.append(message.text))
    page.reload()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    looks.assert_accessible(page)
    assert complaints == []
    expect(page.get_by_role("radio", name="Parquet")).to_be_visible()
    if out := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(out) / f"exports-{width}-{theme}.png", full_page=True)


def test_a_file_comes_down_and_progress_shows_without_a_reload(chromium, live_server, alice, busy):
    page = opened(chromium, live_server.url, alice, busy)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export", exact=True).click()
    assert download.value.suggested_filename == "acme-calls-2026-09-16-2026-10-15.csv"
    assert len(Path(download.value.path()).read_text().splitlines()) == 11
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    Export.objects.filter(format="csv").update(state="failed")
    expect(page.get_by_text("Failed")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
