"""The credits page in Chromium: readable by everyone, whole on a phone, without a word of complaint."""

import os
from datetime import date, timedelta
from pathlib import Path

import pytest
from django.urls import reverse
from playwright.sync_api import Browser

from accounts.models import Organization
from billing_portal.ledger import accounts, checks, credits, reversals, settlement, write_offs
from billing_portal.ledger.models import Grant
from tests import looks
from tests.billing import world

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _october(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now + timedelta(hours=3))
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


@pytest.fixture
def eventful(acme: Organization, now) -> Organization:
    """Acme after two months: credit of every kind, some spent, some expired, some taken back, some debt forgiven."""
    world.load_prices()
    started = now - timedelta(days=60)
    accounts.open(organization=acme, now=started)
    kinds, give = Grant.Kind, {"organization": acme}
    credits.grant(kind=kinds.WELCOME, micros=10_000_000, reference="w", now=started, reason="Welcome", **give)
    for day in range(0, 58, 2):
        start = started + timedelta(days=day)
        if day == 20:
            credits.grant(kind=kinds.PREPAID, micros=40_000_000, reference="p", now=start, **give)
        world.record_calls(acme, 4, starts_at=start, now=start + timedelta(days=1), seed=day)
        settlement.settle_all(acme.pk, now=start + timedelta(hours=2))
    august = date(2026, 8, 1)
    write_offs.forgive(month=august, micros=1_500_000, reason="Test calls of ours", reference="f", now=now, **give)
    late = now - timedelta(days=2)
    wrong = credits.grant(kind=kinds.GOODWILL, micros=5_000_000, reference="g1", now=late, reason="Outage", **give)
    reversals.reverse_grant(
        grant_id=wrong.pk, reason="Given twice: the outage was made good already", reference="r", now=late, **give
    )
    credits.grant(
        kind=kinds.GOODWILL,
        micros=15_000_000,
        reference="g2",
        now=late,
        expires_at=now + timedelta(days=3),
        reason="Outage on 12 October, 40 minutes",
        **give,
    )
    world.record_calls(acme, 30, starts_at=now - timedelta(hours=12), now=now, seed=99)
    settlement.settle_all(acme.pk, now=now)
    assert checks.check(acme.pk, now=now) == []
    return acme


@looks.of_page
def test_the_credits_page_is_sound(
    eventful: Organization, alice, live_server, chromium: Browser, width: int, theme: str
) -> None:
    url = live_server.url + reverse("credits", args=[eventful.public_id])
    page = looks.opened(chromium, url, alice, width=width, theme=theme)
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"credits-{width}-{theme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator(".chart-details summary").click()
    if page.locator(".lots-ended").count():
        page.locator(".lots-ended summary").click()
    looks.assert_accessible(page)
    page.get_by_role("link", name="September 2026").click()
    page.get_by_role("heading", name="Statement of September 2026").wait_for()
    assert "month=2026-09" in page.url
    assert page.complaints == []
