"""Usage that stopped at its limit, in Chromium: what it says, paying it, and interim invoices beside their month."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from accounts.models import Organization
from billing_portal.billing import interim_walk, month_end
from billing_portal.billing.models import InterimInvoice, Invoice
from tests import looks
from tests.billing.conftest import limited, sandbox_process, stripe, subscribed  # noqa: F401 - fixtures
from tests.billing.world import CLOSING, MIDMONTH, invoice_of, use
from tests.conftest import join

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
LATER = MIDMONTH + timedelta(hours=12)


@pytest.fixture
def near(limited: Callable[..., Organization], alice, monkeypatch) -> Organization:  # noqa: F811
    monkeypatch.setattr("accounts.clock.now", lambda: LATER)
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)
    acme = limited("acme", name="Acme Robotics")
    join(acme, alice, "owner")
    use(acme, 12, seed=1)
    return acme


@pytest.fixture
def stopped(stripe, near) -> Organization:  # noqa: F811
    """One interim invoice paid, the second declined, and the limit reached since."""
    interim_walk.advance_waiting(now=LATER)
    use(near, 14, seed=2)
    stripe.faults(decline_next={"code": "insufficient_funds", "count": 1})
    interim_walk.advance_waiting(now=LATER)
    use(near, 6, seed=3)
    return near


@looks.of_page
def test_the_pages_are_sound(chromium, live_server, alice, stripe, stopped, monkeypatch, width, theme):  # noqa: F811
    page, complaints = _open(chromium, live_server.url, alice, width=width, theme=theme)
    for name in ("overview", "credits", "invoices"):
        _look(page, f"stopped-{name}-{width}-{theme}", reverse(name, args=[stopped.public_id]))
    paid, unpaid = InterimInvoice.objects.select_related("invoice").order_by("id")
    _look(page, f"interim-unpaid-{width}-{theme}", _address(stopped, unpaid.invoice))
    stripe.advance_to(CLOSING.timestamp())
    month = invoice_of(stopped)
    month_end.advance(month, now=CLOSING)
    monkeypatch.setattr("accounts.clock.now", lambda: CLOSING)
    _look(page, f"interim-paid-{width}-{theme}", _address(stopped, paid.invoice))
    _look(page, f"interim-month-{width}-{theme}", _address(stopped, month))
    assert complaints == []


def test_it_is_paid_by_keyboard_and_usage_goes_on(chromium, live_server, alice, stopped):
    page, complaints = _open(chromium, live_server.url, alice)
    page.goto(reverse("overview", args=[stopped.public_id]))
    expect(page.get_by_text("Usage is stopped")).to_be_visible()
    page.get_by_role("button", name="Pay $").press("Enter")
    expect(page.get_by_text("is paid.")).to_be_visible()
    page.goto(reverse("overview", args=[stopped.public_id]))
    expect(page.get_by_text("Usage is stopped")).to_have_count(0)
    assert complaints == []


def _address(organization: Organization, invoice: Invoice) -> str:
    return reverse("invoice", args=[organization.public_id, invoice.public_id])


def _look(page: Page, name: str, address: str) -> None:

    page.goto(address, wait_until="networkidle")
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
    looks.assert_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"], name


def _open(browser: Browser, url: str, user, *, width: int = 1360, theme: str = "light") -> tuple[Page, list[str]]:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, base_url=url, reduced_motion="reduce"
    )
    context.add_cookies([{"name": name, "value": each.value, "url": url} for name, each in client.cookies.items()])
    page = context.new_page()
    page.set_default_timeout(10_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: message.type in {"error", "warning"} and complaints.append(message.text))
    return page, complaints
