"""Trace my ID in Chromium: a paid call, an id that was only rejected, an unknown one, and the seal."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from accounts.models import Organization
from billing_portal.billing import month_end
from tests import looks
from tests.billing.conftest import sandbox_process, stripe, subscribed, used  # noqa: F401 - fixtures
from tests.billing.world import CLOSING, MIDMONTH, invoice_of
from tests.conftest import join
from usage import completeness, intake_log
from usage.completeness import Arrival
from usage.intake_log import Rejected, Repeated

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
DAY = timedelta(days=1)


@pytest.fixture
def paid(used, alice, monkeypatch) -> Organization:  # noqa: F811
    """Acme with a paid month, some rejections and copies, and a gap in one of two sources."""
    acme = used("acme", name="Acme Robotics")
    join(acme, alice, "owner")
    month_end.advance(invoice_of(acme), now=CLOSING)
    reason = "2027-02-10T09:35:27.459000+00:00 lies in the future."
    intake_log.note([Rejected(acme.pk, "call_1_7", 0, "end_timestamp", reason)], [], now=MIDMONTH)
    for hours in (13, 15):
        later = MIDMONTH + timedelta(hours=hours)
        intake_log.note([], [Repeated(acme.pk, "call_1_7", False)], now=later)
        intake_log.note(
            [Rejected(acme.pk, "call_9f2b77c1", 0, "duration_ms", "Expected `int`, got `str`.")], [], now=later
        )
    midday = CLOSING - timedelta(minutes=20)
    numbers = {"voice-eu-1": [*range(1, 1042), *range(1045, 2012)], "voice-us-1": range(1, 640)}
    for source, arrived in numbers.items():
        completeness.note([Arrival(acme.pk, source, n, midday) for n in arrived], now=midday)
    monkeypatch.setattr("accounts.clock.now", lambda: CLOSING)
    return acme


@looks.of_page
def test_the_page_is_sound(chromium, live_server, alice, paid, width, theme):

    page, complaints = _open(chromium, live_server.url, alice, width=width, theme=theme)
    address = reverse("trace", args=[paid.public_id])
    for name, url in {
        "seal": address,
        "trace-paid": f"{address}?id=call_1_7",
        "trace-rejected": f"{address}?id=call_9f2b77c1",
        "trace-unknown": f"{address}?id=call_nowhere",
        "usage-sealed": reverse("usage", args=[paid.public_id]),
    }.items():
        page.goto(url)
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}-{width}-{theme}.png", full_page=True)
        looks.assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") == width, name
    assert complaints == []


def test_an_id_is_typed_and_traced_to_its_invoice_line_by_keyboard(chromium, live_server, alice, paid):
    page, complaints = _open(chromium, live_server.url, alice)
    page.goto(reverse("trace", args=[paid.public_id]))
    expect(page.get_by_label("Call id")).to_be_focused()
    page.keyboard.type("call_1_7")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Paid", exact=True)).to_be_visible()
    page.get_by_role("link", name="Voice engine").press("Enter")
    expect(page.get_by_text("The calls behind this line")).to_be_visible()
    assert complaints == []


def _open(browser: Browser, url: str, user, *, width: int = 1360, theme: str = "light") -> tuple[Page, list[str]]:
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
