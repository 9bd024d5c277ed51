"""Usage and calls in Chromium: sound at every width, in both themes, and quick to change without losing one's place."""

import os
import re
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from django.urls import reverse
from playwright.sync_api import expect

from accounts.models import Organization
from billing_portal.ledger import accounts, settlement
from billing_portal.portal import saved_views
from tests import looks
from tests.billing import world
from tests.usage.conftest import call_object
from usage import ingestion, metadata_usage

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
LATER = timedelta(hours=3)


@pytest.fixture
def busy(acme, now, monkeypatch) -> Organization:
    """Acme with calls on each of six weeks' days."""
    monkeypatch.setattr("accounts.clock.now", lambda: now + LATER)
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)
    world.load_prices()
    accounts.open(organization=acme, now=now - timedelta(days=60))
    for day in range(45):
        world.record_calls(acme, 3 + day % 5, starts_at=now - timedelta(days=day), now=now + LATER, seed=day)
    campaigns = ["Spring mailing", "Autumn mailing", "Win back", "2027 preview"]
    items = [
        call_object(
            f"call_meta_{number}",
            start_timestamp=(now - timedelta(hours=5 * number)).isoformat(),
            end_timestamp=...,
            duration_ms=60_000 * (1 + number % 7),
            metadata={"campaign": campaigns[number % 9 % 4], "cost_center": number % 3},
        )
        for number in range(60)
    ]
    ingestion.record([msgspec.json.encode(item) for item in items], now=now + LATER)
    settlement.settle_all(acme.pk, now=now + LATER)
    key = metadata_usage.track(organization=acme, key="campaign", starts_on=(now - timedelta(60)).date(), now=now)
    metadata_usage.count(key.pk)
    member = acme.memberships.get()
    for name, query in (("Errors this week", "days=7d&status=error"), ("Outbound", "days=30d&direction=outbound")):
        saved_views.save(membership=member, name=name, query=query, is_shared=name == "Outbound", now=now)
    return acme


@looks.of_page
def test_the_pages_are_sound(chromium, live_server, alice, busy, width, theme):
    page = looks.opened(chromium, live_server.url, alice, width=width, theme=theme)
    for shown in (
        "usage",
        "usage?by=model&days=month",
        "usage?by=metadata:campaign&days=month",
        "calls",
        "calls?status=error",
        "metadata_keys",
        "saved_views",
    ):
        name, _, query = shown.partition("?")
        page.goto(f"{live_server.url}{reverse(name, args=[busy.public_id])}?{query}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        looks.assert_accessible(page)
        assert page.complaints == []
        if out := os.environ.get("SCREENSHOTS"):
            file = re.sub(r"\W+", "-", shown)
            page.screenshot(path=Path(out) / f"{file}-{width}-{theme}.png", full_page=True)


def test_a_breakdown_changes_in_place_and_stays_in_the_address(chromium, live_server, alice, busy):
    page = looks.opened(chromium, live_server.url + reverse("usage", args=[busy.public_id]), alice)
    page.get_by_label("Break down by").select_option("model")
    expect(page.get_by_role("heading", name="By language model")).to_be_visible()
    assert page.url.endswith("?days=30d&by=model")
    page.get_by_label("Compare with").select_option("days")
    expect(page.get_by_label("Compared from")).to_be_visible()
    page.go_back()
    page.go_back()
    expect(page.get_by_role("heading", name="By component", exact=True)).to_be_visible()
    assert page.complaints == []


def test_new_calls_are_told_of_and_shown_when_one_wants(chromium, live_server, alice, busy, now):
    page = looks.opened(chromium, live_server.url + reverse("calls", args=[busy.public_id]), alice)
    first = page.locator("tbody tr").first
    before = first.bounding_box()
    with page.expect_response(lambda answer: answer.status == 304, timeout=30_000):
        pass  # nothing has changed, and the page is told so
    world.record_calls(busy, 2, starts_at=now + timedelta(hours=1), now=now + LATER, seed=900)
    show = page.get_by_role("link", name="2 new calls: show")
    expect(show).to_be_visible(timeout=30_000)
    assert first.bounding_box() == before  # nothing moves under the pointer
    if out := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(out) / "live-1360-light.png", caret="initial")
    show.click()
    expect(page.locator("tr.is-new")).to_have_count(2)
    expect(page.locator("tr.is-new").first.get_by_role("link")).to_be_focused()
    if out := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(out) / "live-shown-1360-light.png", caret="initial")
    page.get_by_role("link", name="Pause").click()
    expect(page.get_by_role("link", name="Go live")).to_be_focused()
    assert "live=off" in page.url
    assert page.complaints == []


def test_what_is_filtered_in_place_is_what_is_saved(chromium, live_server, alice, busy):
    page = looks.opened(chromium, live_server.url + reverse("calls", args=[busy.public_id]), alice)
    page.get_by_label("Status").select_option("error")
    expect(page.get_by_text("No call matches")).to_be_visible()
    page.get_by_role("button", name="Save view").click()
    page.get_by_label("Name").fill("Broken ones")
    page.get_by_role("dialog").get_by_role("button", name="Save view").click()
    expect(page.get_by_text("Saved as Broken ones.")).to_be_visible()
    assert page.url.endswith("?days=30d&status=error")
    expect(page.get_by_role("link", name="Broken ones")).to_have_attribute("aria-current", "true")
    assert page.complaints == []
