"""Limits & alerts in Chromium: readable by everyone, whole on a phone, without a word of complaint."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.urls import reverse
from playwright.sync_api import Browser

from accounts.models import Organization
from billing_portal.ledger import accounts, alerts, authorization, limits, refusals, reservations, settlement
from billing_portal.ledger.models import Account, Direction, MonthSpend
from tests import looks
from tests.billing import world

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _october(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


@pytest.fixture
def limited(acme: Organization, alice, now) -> Organization:
    """Acme after six weeks, with a cap nearly reached, amounts held, calls refused and alerts told."""
    world.load_prices()
    started = now - timedelta(days=45)
    accounts.open(organization=acme, now=started)
    Account.objects.filter(organization=acme).update(has_card=True, arrears_limit_micros=10**10)
    for day in range(45):
        start = started + timedelta(days=day)
        calls = 2 if start.weekday() >= 5 else 6 + day % 3
        world.record_calls(acme, calls, starts_at=start, now=start + timedelta(days=1), seed=day)
        settlement.settle_all(acme.pk, now=start + timedelta(hours=2))
    spent = MonthSpend.objects.get(organization=acme, month=now.date().replace(day=1)).gross_micros
    cap = spent * 100 // 88
    limits.set(
        acme.pk,
        limits.Terms(cap_micros=cap, outbound_percent=80, inbound_percent=110),
        by=alice,
        now=now - timedelta(days=3),
    )
    alerts.check(acme.pk, now=now - timedelta(hours=5))
    for number in range(3):
        name = f"call_9f3a{number}"
        wish = reservations.Wish(
            reference=name, micros=cap // 60, lasts_seconds=3_600, call_id=name, direction=Direction.INBOUND
        )
        reservations.reserve(acme.pk, wish, now=now)
    refused = authorization.authorize(acme.pk, now=now, direction=Direction.OUTBOUND)
    for number in range(7):
        at = now - timedelta(minutes=11 * number)
        refusals.record(
            refused, call_id=f"call_77b{number}", direction=Direction.OUTBOUND, micros=400_000 + number, now=at
        )
    return acme


@looks.of_page
def test_limits_and_alerts_are_sound(
    limited: Organization, alice, live_server, chromium: Browser, width: int, theme: str
) -> None:
    url = live_server.url + reverse("limits", args=[limited.public_id])
    page = looks.opened(chromium, url, alice, width=width, theme=theme)
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"limits-{width}-{theme}.png", full_page=True)
    assert page.complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    looks.assert_accessible(page)
