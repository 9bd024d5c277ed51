"""Every page of the sandbox passes axe, in the light and in the dark."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.stripe.browser.test_challenge import reach_the_bank
from tests.stripe.browser.test_payment_element import open_customer_session, open_shop, pay

pytestmark = pytest.mark.browser


def assert_accessible(page):
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


@pytest.fixture(params=["light", "dark"])
def scheme(request, page):
    page.emulate_media(color_scheme=request.param)
    return request.param


def test_the_payment_element(page, shop, api, scheme):
    customer, secret = open_customer_session(api)
    frame = open_shop(page, shop, api.setup_intent(customer=customer["id"]), session=secret)
    assert_accessible(page)
    frame.get_by_role("tab", name="Card").click()
    pay(page)
    expect(frame.get_by_text("Your card number is incomplete.")).to_be_visible()
    frame.get_by_text("Test cards").click()
    assert_accessible(page)
    frame.get_by_role("tab", name="Link").click()
    frame.get_by_role("button", name="Pay with Link").click()
    assert_accessible(page)


@pytest.mark.parametrize(("theme", "ground"), [("night", "rgb(21, 26, 36)"), ("stripe", "rgb(255, 255, 255)")])
def test_a_theme_overrides_the_customers_scheme(page, shop, api, scheme, theme, ground):
    frame = open_shop(page, shop, api.setup_intent(), theme=theme)
    expect(frame.locator("body")).to_have_css("background-color", ground)
    assert_accessible(page)


def test_the_challenge(page, shop, api, scheme):
    reach_the_bank(page, shop, api.payment_intent())
    assert_accessible(page)
