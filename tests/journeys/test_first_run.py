"""One person's first month, in the browser: from sign-up to a paid invoice, down to the single call."""

import json
import re
import time
import urllib.request
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests import looks
from tests.journeys.conftest import Portal
from tests.local_servers import CHROMIUM_FLAGS

EMAIL, PASSWORD = "olivia@first.example", "a long enough phrase"
LAWS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PATIENCE_MS = 120_000


@pytest.fixture
def page(chromium_path: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=CHROMIUM_FLAGS)
        expect.set_options(timeout=PATIENCE_MS)
        page = browser.new_page(viewport={"width": 1360, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()


class Visitor:
    """Olivia: walks, looks whether each page is sound, and remembers what the console said."""

    def __init__(self, page: Page, portal: Portal) -> None:
        self.page, self.portal, self.complaints = page, portal, []
        page.on(
            "console", lambda message: message.type in {"error", "warning"} and self.complaints.append(message.text)
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def look(self) -> None:
        """Look at the page that is there: who clicked waits for the next one first, or axe loses its ground."""
        self.page.wait_for_load_state()
        assert self.complaints == [], f"{self.page.url}: {self.complaints}"
        looks.assert_accessible(self.page, runOnly=LAWS)
        self.complaints.clear()  # axe knocks at Stripe's frame, which the browser reports
        overflow = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"{self.page.url} scrolls sideways"

    def code(self) -> str:
        for _ in range(100):
            for letter in reversed(self.portal.letters()):
                if found := re.search(r"^\s*([A-Z0-9]{4}-[A-Z0-9]{4})\s*$", letter, re.MULTILINE):
                    return found[1]
            time.sleep(0.1)
        raise AssertionError(f"no code in {self.portal.letters()}")


def call(number: int, organization: str) -> dict[str, object]:
    start = 1792562400000 + number * 600_000  # 21 October 2026, 06:00 UTC
    return {
        "organization": organization,
        "call_id": f"call_first_{number:03d}",
        "call_type": "phone_call",
        "call_status": "ended",
        "agent_id": "agent_1",
        "agent_name": "Receptionist",
        "start_timestamp": start,
        "end_timestamp": start + 97_000,
        "duration_ms": 97_000,
        "direction": "inbound",
        "disconnection_reason": "user_hangup",
        "llm_token_usage": {"values": [4982] * 6 + [4983] * 2, "average": 4982.25, "num_requests": 8},
        "call_cost": {
            "product_costs": [
                {"product": name}
                for name in (
                    "elevenlabs_tts",
                    "gemini_2_0_flash",
                    "background_voice_cancellation",
                    "post_call_analysis_gpt_4o",
                )
            ]
        },
    }


def post(portal: Portal, key: str, calls: list[dict[str, object]]) -> dict[str, object]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{portal.url}/api/v1/calls", json.dumps(calls).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def reload_until(page: Page, text: str) -> None:
    """Reload as a person would, until the page says `text`."""
    give_up_at = time.monotonic() + PATIENCE_MS / 1000
    while not page.get_by_text(text).first.is_visible() and time.monotonic() < give_up_at:
        time.sleep(1)
        page.reload()
    expect(page.get_by_text(text).first).to_be_visible()


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_from_sign_up_to_a_paid_invoice_that_opens_down_to_the_call(portal: Portal, page: Page) -> None:
    olivia = Visitor(page, portal)

    page.goto(f"{portal.url}/")
    page.get_by_role("link", name="Create an account").click()
    expect(page).to_have_url(re.compile("/accounts/signup/"))
    olivia.look()
    page.get_by_label("Your name").fill("Olivia Owner")
    page.get_by_label("E-mail").fill(EMAIL)
    page.get_by_label("Password").first.fill(PASSWORD)
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name=re.compile("create|sign up", re.IGNORECASE)).click()
    expect(page.get_by_label(re.compile("code", re.IGNORECASE))).to_be_visible()
    olivia.look()
    page.get_by_label(re.compile("code", re.IGNORECASE)).fill(olivia.code())
    page.get_by_role("button", name=re.compile("confirm|verify|continue", re.IGNORECASE)).first.click()

    expect(page.get_by_role("heading", name="Tell us about your organization")).to_be_visible()
    olivia.look()
    page.get_by_label("Organization").fill("First Robotics")
    page.get_by_role("button", name="Open the account").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.get_by_text("$10.00").first).to_be_visible()
    olivia.look()

    page.get_by_role("link", name="Payment methods").first.click()
    expect(page).to_have_url(re.compile("/payment-methods/"))
    olivia.look()
    page.get_by_role("link", name="Add a card").first.click()
    expect(page.get_by_role("heading", name="Your billing address")).to_be_visible()
    olivia.look()
    page.get_by_label("Country").select_option("CH")
    page.get_by_label("Address", exact=True).fill("Bahnhofstrasse 1")
    page.get_by_label("City").fill("Zürich")
    page.get_by_label("Postal code").fill("8001")
    page.get_by_role("button", name="Save and go on").click()
    frame = page.frame_locator("[data-payment-element] iframe")
    frame.get_by_label("Card number").fill("4242424242424242")
    frame.get_by_label(re.compile("expir", re.IGNORECASE)).fill("12 / 31")
    frame.get_by_label(re.compile("CVC|security", re.IGNORECASE)).fill("123")
    if (postal := frame.get_by_label(re.compile("postal|zip", re.IGNORECASE))).count():
        postal.fill("94107")
    olivia.look()
    page.get_by_role("button", name="Accept and save the card").click()
    expect(page.get_by_text("Visa").first).to_be_visible()
    expect(page.get_by_text("4242").first).to_be_visible()
    olivia.look()

    key = portal.manage("issue_key", "platform", "--scope", "calls:write")
    assert post(portal, key, [call(number, "first-robotics") for number in range(8)])["recorded"] == 8
    assert post(portal, key, [call(number, "first-robotics") for number in range(8)])["duplicates"] == 8
    portal.manage("advance_clock", "2026-10-30T09:00")
    assert post(portal, key, [call(number, "first-robotics") for number in range(8, 100)])["recorded"] == 92

    page.get_by_role("link", name="Usage").first.click()
    reload_until(page, "$15.22")  # a hundred calls of $0.15215
    olivia.look()

    portal.manage("advance_clock", "month-end")
    page.get_by_role("link", name="Invoices").first.click()
    reload_until(page, "Paid")
    olivia.look()
    # $15.215 of usage, $10 of credit: each line is rounded by itself, so the total may be a cent off their difference.
    expect(page.get_by_role("cell", name=re.compile(r"^\$5\.2[0-3]$"))).to_be_visible()
    page.get_by_role("table").get_by_role("link").first.click()
    expect(page.get_by_text("This invoice agrees with your call log")).to_be_visible()
    olivia.look()
    page.get_by_role("link", name="Language model").first.click()
    expect(page.get_by_role("heading", name="Language model")).to_be_visible()
    olivia.look()
    page.get_by_role("table").get_by_role("link").first.click()
    expect(page.get_by_text("$0.15215").first).to_be_visible()
    expect(page.get_by_text("Welcome credit").first).to_be_visible()
    olivia.look()

    page.set_viewport_size({"width": 400, "height": 800})
    olivia.look()
    page.set_viewport_size({"width": 1360, "height": 900})
    page.locator(".sidebar-foot summary").click()
    page.get_by_role("button", name="Log out").first.click()
    if (confirm := page.get_by_role("main").get_by_role("button", name="Log out")).count():
        confirm.click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    olivia.look()
