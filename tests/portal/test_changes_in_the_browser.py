"""What changed, in Chromium: wide and narrow, light and dark, by keyboard into what is behind a step."""

import os
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from tests import looks
from tests.portal.test_changes import _october, dearer  # noqa: F401 - fixtures
from tests.usage.conftest import priced, record  # noqa: F401 - fixtures

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@looks.of_page
def test_the_pages_are_sound(chromium, live_server, alice, dearer, width, theme):  # noqa: F811

    page, complaints = opened(chromium, live_server.url, alice, width=width, theme=theme)
    whole = reverse("changes", args=[dearer.public_id])
    for name, url in {
        "changes": whole,
        "changes-billed": f"{whole}?month=2026-09",
        "change-mix": f"{whole}mix/",
        "change-volume": f"{whole}volume/",
        "change-credit": f"{whole}credit/?month=2026-09",
    }.items():
        page.goto(url)
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}-{width}-{theme}.png", full_page=True)
        looks.assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") == width, name
    assert complaints == []


def test_a_step_opens_by_keyboard_into_its_products_and_their_calls(chromium, live_server, alice, dearer):  # noqa: F811
    page, complaints = opened(chromium, live_server.url, alice)
    page.goto(reverse("overview", args=[dearer.public_id]))
    page.get_by_role("link", name="What changed").press("Enter")
    step = page.get_by_role("row", name="Models, voices and lines")
    expect(step).to_be_visible()
    step.get_by_role("link").press("Enter")
    expect(page.get_by_role("heading", name="Models, voices and lines")).to_be_visible()
    page.get_by_role("link", name="Calls with GPT-5, Oct").press("Enter")
    expect(page.get_by_text("call_2026-10-05_100000_39_3")).to_be_visible()
    assert complaints == []


def opened(browser: Browser, url: str, user, *, width: int = 1360, theme: str = "light") -> tuple[Page, list[str]]:
    """Return a page of somebody who is logged in, and what its console complains of."""
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, base_url=url, reduced_motion="reduce"
    )
    context.add_cookies([{"name": name, "value": each.value, "url": url} for name, each in client.cookies.items()])
    page = context.new_page()
    page.set_default_timeout(30_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: message.type in {"error", "warning"} and complaints.append(message.text))
    return page, complaints
