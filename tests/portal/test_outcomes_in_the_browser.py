"""Outcomes in Chromium: from the month's figures to one conversation, by keyboard too, without a fault of axe's."""

import os
from pathlib import Path

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from tests import looks
from tests.portal.test_outcomes import talked as talked_fixture

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
talked = talked_fixture


@pytest.fixture(autouse=True)
def _october(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


def test_one_finds_out_why_a_conversation_was_billed(live_server, chromium: Browser, talked, alice):
    home = live_server.url + reverse("outcomes", args=[talked.public_id])
    for width, theme in ((1360, "light"), (400, "dark")):
        page = looks.opened(chromium, f"{home}?days=month", alice, width=width, theme=theme)
        _sound(page, f"outcomes-{width}-{theme}")
        page.get_by_role("link", name="All conversations").click()
        expect(page.get_by_role("heading", name="Conversations", level=1)).to_be_visible()
        page.get_by_label("Paid by").select_option("given_back")
        expect(page.get_by_text("c_lead")).to_have_count(0)
        _sound(page, f"conversations-{width}-{theme}")
        page.get_by_role("row").filter(has_text="c_2").get_by_role("link").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_text("Taken back", exact=True)).to_be_visible()
        _sound(page, f"conversation-{width}-{theme}")
        assert page.complaints == []
        page.context.close()


def _sound(page: Page, name: str) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    looks.assert_accessible(page)
    if out := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(out) / f"{name}.png", full_page=True)
