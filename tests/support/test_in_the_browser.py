"""The desk in Chromium: no violation of the strict CSP, nothing that scrolls sideways, light and dark."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from accounts.models import Organization
from billing_portal.billing.models import Invoice
from usage.models import Call, PriceVersion

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def chromium(chromium_path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    # Playwright's loop runs in this thread; the ORM is used between its calls, never within one.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        yield browser
        browser.close()


def as_staff(browser: Browser, desk: Client, url: str, *, width: int, theme: str) -> BrowserContext:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, base_url=url)
    context.add_cookies([{"name": name, "value": each.value, "url": url} for name, each in desk.cookies.items()])
    return context


@pytest.mark.parametrize("width", [1360, 400])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_desk_is_sound(
    desk: Client, furnished: Organization, live_server, chromium: Browser, width: int, theme: str
) -> None:
    pages = {
        "index": "/staff/",
        "find": "/staff/find/?q=acme",
        "calls": reverse("admin:usage_call_changelist"),
        "call": reverse("admin:usage_call_change", args=[Call.objects.order_by("pk").first().pk]),
        "invoice": reverse("admin:billing_invoice_change", args=[Invoice.objects.get().pk]),
        "inbox": reverse("admin:billing_inboxevent_changelist"),
        "prices": reverse("admin:usage_priceversion_change", args=[PriceVersion.objects.order_by("pk").first().pk]),
        "new-prices": reverse("admin:usage_priceversion_add"),
        "new-key": reverse("admin:accounts_apikey_add"),
        "mirror": reverse("admin:djstripe_invoice_changelist"),
    }
    context = as_staff(chromium, desk, live_server.url, width=width, theme=theme)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: message.type in {"error", "warning"} and complaints.append(message.text))
    for name, url in pages.items():
        answer = page.goto(url, wait_until="networkidle")
        assert answer is not None
        assert answer.status == 200, url
        assert not complaints, (name, complaints)
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}-{width}-{theme}.png", full_page=True)
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, (name, overflow)
    context.close()
