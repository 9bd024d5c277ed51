"""The bank asks, and its answer decides."""

import pytest
from playwright.sync_api import expect

from tests.stripe.browser.test_payment_element import open_shop, pay, type_card

pytestmark = pytest.mark.browser

CHALLENGED = "4000002760003184"


def reach_the_bank(page, shop, intent, **query):
    frame = open_shop(page, shop, intent, **query)
    type_card(frame, CHALLENGED)
    pay(page)
    bank = page.frame_locator("dialog iframe")
    expect(bank.get_by_role("heading", name="Confirm it is you")).to_be_visible()
    return bank


def test_a_completed_challenge_succeeds(page, shop, api):
    intent = api.payment_intent()
    bank = reach_the_bank(page, shop, intent)
    expect(bank.get_by_text("$42.00")).to_be_visible()
    bank.get_by_role("button", name="Complete").click()
    expect(page.locator("#result")).to_contain_text(f"{intent['id']} succeeded")
    expect(page.locator("dialog")).to_have_count(0)


@pytest.mark.parametrize("kind", ["setup_intent", "payment_intent"])
def test_a_failed_challenge_is_an_error(page, shop, api, kind):
    bank = reach_the_bank(page, shop, getattr(api, kind)())
    bank.get_by_role("button", name="Fail").click()
    expect(page.locator("#result")).to_contain_text(f"error invalid_request_error {kind}_authentication_failure")


def test_escape_answers_no(page, shop, api):
    bank = reach_the_bank(page, shop, api.setup_intent())
    expect(bank.get_by_role("button", name="Complete")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#result")).to_contain_text("setup_intent_authentication_failure")
