"""The developer page in Chromium: by keyboard and without scripts, accessible, nothing scrolls sideways."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect

from accounts import api_keys, clock
from accounts.models import ApiKey
from tests import looks

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def open_page(chromium, alice, live_server):
    """Open a page as Alice; at the end of the test nothing may have been complained of in the console."""
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    complaints: list[str] = []

    def open_it(*, width: int = 1360, theme: str = "light", scripts: bool = True) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=theme,
            java_script_enabled=scripts,
            base_url=live_server.url,
            reduced_motion="reduce",
        )
        context.add_cookies([{"name": n, "value": c.value, "url": live_server.url} for n, c in client.cookies.items()])
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: message.type in {"error", "warning"} and complaints.append(message.text))
        return page

    yield open_it
    assert complaints == []


@pytest.fixture
def keys(acme, alice) -> ApiKey:
    """Keys in every state; the one that works and was used is returned."""
    now = clock.now()
    made = {"organization": acme, "scopes": ["usage:read"], "by": alice}
    used, secret = api_keys.issue(
        name="Nightly export", **made, now=now - timedelta(days=40), expires_at=now + timedelta(days=200)
    )
    api_keys.recognize(secret, now=now - timedelta(hours=3))
    old, _ = api_keys.issue(name="Finance dashboard", **made, now=now - timedelta(days=80))
    api_keys.rotate(old, old_expires_at=now + timedelta(days=1), now=now, by=alice)
    api_keys.issue(name="Trial", **made, now=now - timedelta(days=28), expires_at=now + timedelta(days=2))
    api_keys.issue(name="Old laptop", **made, now=now - timedelta(days=300), expires_at=now - timedelta(days=9))
    gone, _ = api_keys.issue(name="Leaked in a log", **made, now=now - timedelta(days=9))
    api_keys.revoke(gone, now=now - timedelta(days=2), by=alice)
    return used


@looks.of_page
def test_the_pages_are_sound(open_page, acme, keys, width, theme):

    page = open_page(width=width, theme=theme)
    one = [acme.public_id, keys.public_id]
    replaced = ApiKey.objects.filter(name="Finance dashboard").earliest("pk")
    addresses = {
        "developers": reverse("developers", args=[acme.public_id]),
        "key": reverse("developer_key", args=one),
        "key-replaced": reverse("developer_key", args=[acme.public_id, replaced.public_id]),
        "key-rotate": reverse("developer_key_rotate", args=one),
        "key-new": reverse("developer_key_new", args=[acme.public_id]),
        "key-made": "",
    }
    for name, url in addresses.items():
        if url:
            page.goto(url)
        else:
            page.get_by_label("Name").fill("Warehouse loader")
            page.get_by_role("button", name="Make the key").click()
            expect(page.get_by_text("It is shown this once")).to_be_visible()
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}-{width}-{theme}.png", full_page=True)
        looks.assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") == width, name


def test_a_key_is_made_and_revoked_by_keyboard_alone(open_page, acme):
    page = open_page()
    page.goto(reverse("developer_key_new", args=[acme.public_id]))
    page.get_by_label("Name").focus()
    page.keyboard.type("Keyboard")
    for _ in range(3):  # both scopes, then the expiry
        page.keyboard.press("Tab")
    expect(page.get_by_label("Expires", exact=True)).to_be_focused()
    page.keyboard.press("Tab")  # the typed time is not there to stop at
    expect(page.get_by_role("button", name="Make the key")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("It is shown this once")).to_be_visible()
    key = ApiKey.objects.get()
    assert key.name == "Keyboard"
    page.goto(reverse("developer_key", args=[acme.public_id, key.public_id]))
    page.get_by_role("button", name="Revoke…").press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Revoke").press("Enter")
    expect(page.get_by_text("Keyboard is revoked")).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False])
def test_the_time_to_choose_shows_when_it_is_chosen(open_page, acme, scripts):
    page = open_page(scripts=scripts)
    page.goto(reverse("developer_key_new", args=[acme.public_id]))
    typed = page.get_by_label("Expires at")
    expect(typed).to_be_hidden()
    page.get_by_label("Expires", exact=True).select_option("at")
    expect(typed).to_be_visible()


def test_without_scripts_a_key_is_made_and_revoked(open_page, acme):
    page = open_page(scripts=False)
    page.goto(reverse("developer_key_new", args=[acme.public_id]))
    page.get_by_label("Name").fill("Plain")
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator(".copy-secret")).to_contain_text("bp_org_")
    page.get_by_role("link", name="I have copied it").click()
    page.get_by_role("link", name="Plain").click()
    page.get_by_role("button", name="Revoke…").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("Plain is revoked")).to_be_visible()


def test_f27_a_double_click_shows_the_secret_of_the_one_key(open_page, acme):
    page = open_page()
    page.goto(reverse("developer_key_new", args=[acme.public_id]))
    page.get_by_label("Name").fill("Twice")
    page.get_by_role("button", name="Make the key").dblclick()
    expect(page.locator(".copy-secret")).to_contain_text("bp_org_")
    expect(page.locator(".copy-secret")).to_contain_text(ApiKey.objects.get().prefix)
