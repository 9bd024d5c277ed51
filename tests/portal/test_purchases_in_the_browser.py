"""Buying credit in Chromium: by the saved card and through Checkout, without scripts, and pages that are sound."""

import copy
import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client, override_settings
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from billing_portal.billing import purchase_payment, purchases, top_ups
from billing_portal.billing.models import Purchase
from tests import looks
from tests.billing.world import MIDMONTH, Buyer
from tests.stripe.conftest import RunningSandbox

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _february(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.clock.now", lambda: MIDMONTH)
    # The worker, at once.
    monkeypatch.setattr("accounts.queueing.send", lambda task, *args, **_: bool(task(*args)) or True)


@pytest.fixture
def open_page(chromium: Browser, live_server: Any, stripe: RunningSandbox) -> Iterator[Callable[..., Page]]:
    """Open a browser as the buyer's owner; the portal lets its forms lead to this sandbox."""
    policy = copy.deepcopy(settings.CONTENT_SECURITY_POLICY)
    policy["DIRECTIVES"]["form-action"].append(stripe.url)

    def open_it(acme: Buyer, *, width: int = 1360, theme: str = "light", scripts: bool = True) -> Page:
        client = Client()
        client.force_login(acme.owner, backend="django.contrib.auth.backends.ModelBackend")
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=theme,  # type: ignore[arg-type]
            java_script_enabled=scripts,
            base_url=live_server.url,
            reduced_motion="reduce",
        )
        context.add_cookies([{"name": n, "value": c.value, "url": live_server.url} for n, c in client.cookies.items()])
        page = context.new_page()
        page.set_default_timeout(15_000)
        return page

    with override_settings(CONTENT_SECURITY_POLICY=policy):
        yield open_it


def url(name: str, acme: Buyer, *more: Any) -> str:
    return reverse(name, args=[acme.organization.public_id, *more])


@pytest.mark.parametrize("scripts", [True, False])
def test_credit_is_bought_with_the_saved_card(
    open_page: Callable[..., Page], buyer: Callable[..., Buyer], scripts: bool
) -> None:
    acme = buyer("acme")
    page = open_page(acme, scripts=scripts)
    page.goto(url("credits", acme))
    page.get_by_role("link", name="Buy credit").first.click()
    page.get_by_label("Amount in USD").fill("37.50")
    if not scripts:
        page.get_by_role("button", name="Show what it costs").click()
    page.get_by_role("button", name="Pay $37.50 with Visa 4242").click()
    expect(page.get_by_text("$37.50 of credit is ready to use")).to_be_visible()
    page.go_back()
    page.go_forward()
    assert acme.credit_micros == 37_500_000
    assert Purchase.objects.count() == 1


def test_credit_is_bought_in_checkout(open_page: Callable[..., Page], buyer: Callable[..., Buyer]) -> None:
    acme = buyer("acme", card=None)
    page = open_page(acme)
    page.goto(url("buy_credit", acme))
    page.get_by_role("link", name="$25", exact=True).click()
    page.get_by_role("button", name="Pay $25.00 at Stripe").click()
    frame = page.frame_locator("iframe").first
    frame.get_by_label("Card number").fill("4242424242424242")
    frame.get_by_label("Expir").fill("12 / 34")
    frame.get_by_label(re.compile("CVC|ecurity")).fill("123")
    if (postal := frame.get_by_label("ZIP code")).count():
        postal.fill("94107")
    page.get_by_role("button", name="Pay").first.click()
    expect(page.get_by_text("$25.00 of credit is ready to use")).to_be_visible()
    assert acme.credit_micros == 25_000_000


@looks.of_page
def test_the_pages_are_sound(
    open_page: Callable[..., Page], buyer: Callable[..., Buyer], width: int, theme: str
) -> None:
    acme = buyer("acme", card="pm_card_authenticationRequired")
    terms = {"threshold_micros": 20_000_000, "amount_micros": 50_000_000, "ceiling_micros": 200_000_000}
    order = top_ups.switch_on(organization=acme.organization, user=acme.owner, now=MIDMONTH, **terms)
    asked = purchases.ask_for_top_up(order, now=MIDMONTH - timedelta(minutes=3))
    purchase_payment.advance(asked, now=MIDMONTH)
    page = open_page(acme, width=width, theme=theme)
    addresses = {
        "buy": url("buy_credit", acme),
        "purchase-waiting": url("purchase", acme, asked.public_id),
        "purchases": url("purchases", acme),
        "top-up": url("top_up", acme) + "?threshold=20&amount=100&ceiling=400",
        "credits-with-top-up": url("credits", acme),
    }
    for name, address in addresses.items():
        page.goto(address)
        page.wait_for_timeout(300)
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}-{width}-{theme}.png", full_page=True)
        looks.assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") == width, name
