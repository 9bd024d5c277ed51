"""Every page of the sandbox passes axe, in the light and in the dark."""

import pytest
from playwright.sync_api import expect

from tests import looks
from tests.stripe.browser.test_challenge import reach_the_bank
from tests.stripe.browser.test_payment_element import open_customer_session, open_shop, pay

pytestmark = pytest.mark.browser


@pytest.fixture(params=["light", "dark"])
def scheme(request, page):
    page.emulate_media(color_scheme=request.param)
    return request.param


def test_the_payment_element(page, shop, api, scheme):
    customer, secret = open_customer_session(api)
    frame = open_shop(page, shop, api.setup_intent(customer=customer["id"]), session=secret)
    looks.assert_accessible(page)
    frame.get_by_role("tab", name="Card").click()
    pay(page)
    expect(frame.get_by_text("Your card number is incomplete.")).to_be_visible()
    frame.get_by_text("Test cards").click()
    looks.assert_accessible(page)
    frame.get_by_role("tab", name="Link").click()
    frame.get_by_role("button", name="Pay with Link").click()
    looks.assert_accessible(page)


@pytest.mark.parametrize(("theme", "ground"), [("night", "rgb(23, 29, 41)"), ("stripe", "rgb(255, 255, 255)")])
def test_a_theme_overrides_the_customers_scheme(page, shop, api, scheme, theme, ground):
    frame = open_shop(page, shop, api.setup_intent(), theme=theme)
    expect(frame.locator("body")).to_have_css("background-color", ground)
    looks.assert_accessible(page)


def test_the_challenge(page, shop, api, scheme):
    reach_the_bank(page, shop, api.payment_intent())
    looks.assert_accessible(page)


def addresses(api, origin):
    """Make one of everything; answer the address of every page, by name."""
    customer = api.customer("pm_card_mastercard", "pm_card_visa")
    owed, paid = api.invoice(customer["id"]), api.invoice(customer["id"])
    api.post(f"invoices/{paid['id']}/pay")
    session = api.post("billing_portal/sessions", customer=customer["id"], return_url="http://127.0.0.1:9/back")
    [charge] = api.get("charges")["data"]
    item = {"price_data": {"currency": "usd", "unit_amount": 2500, "product_data": {"name": "Credit"}}, "quantity": 2}
    checkout = api.post("checkout/sessions", mode="payment", line_items=[item], success_url="http://127.0.0.1:9/ok")
    abroad = {
        "customer_email": "ada+location_FR@example.com",
        "line_items": [item],
        "success_url": "http://127.0.0.1:9/",
    }
    foreign = api.post("checkout/sessions", mode="payment", **abroad)
    asks = {"automatic_tax": {"enabled": True}, "tax_id_collection": {"enabled": True}}
    asking = api.post("checkout/sessions", mode="payment", **abroad, **asks)
    inspector = f"{origin}/_sandbox/"
    return {
        "an open invoice": owed["hosted_invoice_url"],
        "a paid invoice": paid["hosted_invoice_url"],
        "a receipt": charge["receipt_url"],
        "the portal": session["url"],
        "a checkout": checkout["url"],
        "a checkout abroad": foreign["url"],
        "a checkout that asks for an address": asking["url"],
        "no invoice": f"{origin}/i/in_none",
        "the overview": inspector,
        "a list": f"{inspector}objects/invoice",
        "an object": f"{inspector}objects/invoice/{owed['id']}",
        "an event": f"{inspector}objects/event/{api.get('events')['data'][0]['id']}",
        "the events": f"{inspector}events",
        "the faults": f"{inspector}faults/",
        "the reset": f"{inspector}reset/",
    }


def test_every_page_is_accessible_and_fits_a_phone(page, api, origin, scheme):
    page.set_viewport_size({"width": 400, "height": 800})
    for name, address in addresses(api, origin).items():
        page.goto(address)
        looks.assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, name
        expect(page.get_by_role("banner").get_by_text("Sandbox", exact=True)).to_be_visible()
    page.complaints.remove("Failed to load resource: the server responded with a status of 404 (Not Found)")
