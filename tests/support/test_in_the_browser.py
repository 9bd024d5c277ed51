"""The desk in Chromium: no violation of the strict CSP, nothing that scrolls sideways, light and dark."""

import os
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, BrowserContext, expect

from accounts.models import Organization
from billing_portal.billing.models import Invoice
from tests import looks
from usage.models import Backfill, Call, HeldCall, ImportJob, PriceVersion

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def as_staff(browser: Browser, desk: Client, url: str, *, width: int, theme: str) -> BrowserContext:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, base_url=url)
    context.add_cookies([{"name": name, "value": each.value, "url": url} for name, each in desk.cookies.items()])
    return context


@looks.of_page
def test_the_desk_is_sound(
    desk: Client, furnished: Organization, live_server, chromium: Browser, width: int, theme: str
) -> None:
    pages = {
        "index": "/staff/",
        "find": "/staff/find/?q=acme",
        "trace": "/staff/trace/?id=call_1_3",
        "calls": reverse("admin:usage_call_changelist"),
        "call": reverse("admin:usage_call_change", args=[Call.objects.order_by("pk").first().pk]),
        "invoice": reverse("admin:billing_invoice_change", args=[Invoice.objects.get().pk]),
        "organization": reverse("staff_organization", args=[furnished.public_id]),
        "goodwill": reverse("staff_action", args=[furnished.public_id, "goodwill"]),
        "approvals": reverse("staff_approvals"),
        "backfills": reverse("staff_backfills"),
        "backfill": reverse("staff_backfill", args=[Backfill.objects.get().public_id]),
        "inbox": reverse("admin:billing_inboxevent_changelist"),
        "prices": reverse("admin:usage_priceversion_change", args=[PriceVersion.objects.order_by("pk").first().pk]),
        "new-prices": reverse("admin:usage_priceversion_add"),
        "imports": reverse("admin:usage_importjob_changelist"),
        "import": reverse("admin:usage_importjob_change", args=[ImportJob.objects.get().pk]),
        "new-import": reverse("admin:usage_importjob_add"),
        "held-calls": reverse("admin:usage_heldcall_changelist"),
        "held-call": reverse("admin:usage_heldcall_change", args=[HeldCall.objects.get().pk]),
        "new-key": reverse("admin:accounts_apikey_add"),
        "mirror": reverse("admin:djstripe_invoice_changelist"),
    }
    context = as_staff(chromium, desk, live_server.url, width=width, theme=theme)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: message.type in {"error", "warning"} and complaints.append(message.text))
    for name, url in pages.items():
        answer = page.goto(url)
        assert answer is not None
        assert answer.status == 200, url
        assert not complaints, (name, complaints)
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}-{width}-{theme}.png", full_page=True)
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, (name, overflow)
    context.close()


@pytest.mark.parametrize("width", [1360, 400])
def test_credit_is_given_in_three_steps_without_scripts(
    desk: Client, furnished: Organization, live_server, chromium: Browser, width: int
) -> None:
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, base_url=live_server.url, java_script_enabled=False
    )
    context.add_cookies(
        [{"name": name, "value": each.value, "url": live_server.url} for name, each in desk.cookies.items()]
    )
    page = context.new_page()
    page.goto(reverse("staff_organization", args=[furnished.public_id]))
    page.get_by_role("link", name="Give goodwill credit").click()
    page.get_by_label("Amount in USD").fill("55.50")
    page.get_by_label("Reason").fill("Outage on 12 October, 40 minutes")
    page.get_by_role("button", name="Show what will happen").click()
    expect(page.get_by_role("row", name="Credit left 0.00 USD 55.50 USD")).to_be_visible()
    expect(page.get_by_text("A second member of staff has to approve it")).to_be_visible()
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"preview-{width}.png", full_page=True)
    page.get_by_role("button", name="Ask for approval").click()
    expect(page.get_by_text("A second one has been asked")).to_be_visible()
    page.get_by_role("link", name="Approvals (1)").click()
    page.get_by_role("link", name="Give goodwill credit").first.click()
    expect(page.get_by_text("somebody else has to decide")).to_be_visible()
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"approval-{width}.png", full_page=True)
    page.get_by_role("button", name="Withdraw it").click()
    expect(page.get_by_text("Nothing was changed")).to_be_visible()
    context.close()
