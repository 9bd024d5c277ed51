"""Paying an open invoice in Chromium, on our page, with a card that is entered there: once, and seen at once."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from accounts.models import Membership, Organization, User
from billing_portal.billing import interim_walk
from billing_portal.billing.models import Invoice
from billing_portal.ledger.models import Transaction
from tests import looks
from tests.billing.conftest import limited, sandbox_process, stripe, subscribed  # noqa: F401 - fixtures
from tests.billing.world import MIDMONTH, use
from tests.conftest import join
from tests.stripe.conftest import RunningSandbox

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
LATER = MIDMONTH + timedelta(hours=12)


@pytest.fixture
def open_invoice(
    stripe: RunningSandbox,  # noqa: F811
    limited: Callable[..., Organization],  # noqa: F811
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
) -> Invoice:
    """An invoice of Acme's, whose card was declined."""
    monkeypatch.setattr("accounts.clock.now", lambda: LATER)
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)
    acme = limited("acme")
    join(acme, alice, Membership.Role.OWNER)
    use(acme, 12, seed=1)
    stripe.faults(decline_next={"code": "insufficient_funds", "count": 1})
    interim_walk.advance_waiting(now=LATER)
    return Invoice.objects.get()


@pytest.fixture
def page(chromium: Browser, live_server: Any, alice: User, settings: Any, stripe: RunningSandbox) -> Page:  # noqa: F811
    settings.STRIPE_JS_URL = f"{stripe.url}/stripe.js"
    policy = {name: list(sources) for name, sources in settings.CONTENT_SECURITY_POLICY["DIRECTIVES"].items()}
    for name in ("script-src", "connect-src", "frame-src"):
        policy[name].append(stripe.url)
    settings.CONTENT_SECURITY_POLICY = {"DIRECTIVES": policy}
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    context = chromium.new_context(base_url=live_server.url, reduced_motion="reduce")
    context.add_cookies([{"name": n, "value": c.value, "url": live_server.url} for n, c in client.cookies.items()])
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    return opened


# Colors change with the next frame, and over some milliseconds.
_REPAINTED = """async () => {
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    await Promise.all(document.getAnimations().map(each => each.finished));
}"""


def look(page: Page) -> None:
    """Hold the page to its standards at both widths and in both themes; keep pictures where they are wanted."""
    for width, theme in ((1360, "light"), (400, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        page.evaluate(_REPAINTED)
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"pay-by-form-{width}-{theme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        looks.assert_accessible(page, iframes=False)


def test_f27_an_invoice_is_paid_on_the_page_with_a_new_card_once(page: Page, open_invoice: Invoice) -> None:
    address = [open_invoice.organization.public_id, open_invoice.public_id]
    page.goto(reverse("invoice_payment", args=address))
    page.get_by_role("link", name="Another card or Link").click()
    frame = page.frame_locator("[data-payment-element] iframe").first
    expect(frame.get_by_label("Card number")).to_be_enabled()
    look(page)
    frame.get_by_label("Card number").press_sequentially("5555555555554444")
    frame.get_by_label("Expiration date").press_sequentially("1234")
    frame.get_by_label("Security code").press_sequentially("123")
    if (postal := frame.get_by_label("ZIP code")).count():
        postal.fill("94110")
    page.locator("[data-payment-form] button[type=submit]").click()
    expect(page.get_by_text(f"Invoice {open_invoice.number} is paid.")).to_be_visible()
    open_invoice.refresh_from_db()
    assert open_invoice.state == Invoice.State.PAID
    assert Transaction.objects.filter(kind="collect").count() == 1
    page.goto(reverse("invoice_pay_by_form", args=address))
    expect(page.get_by_text("nothing is left to pay")).to_be_visible()
