"""Hosted Checkout sends the customer back only when the session is complete."""

import pytest
from playwright.sync_api import expect

from tests.stripe.browser.test_payment_element import type_card


@pytest.fixture
def session(api):
    """An open session over 25.00 USD of credit, on a page without a name for its customer."""
    product = {"name": "100 USD of <credit>"}
    item = {"price_data": {"currency": "usd", "unit_amount": 2500, "product_data": product}, "quantity": 1}
    urls = {"success_url": "http://shop.test/ok?s={CHECKOUT_SESSION_ID}", "cancel_url": "http://shop.test/no"}
    return api.post("checkout/sessions", mode="payment", line_items=[item], **urls)


def pay(api, session):
    api.post(
        f"payment_intents/{session['payment_intent']}/confirm",
        payment_method="pm_card_visa",
        return_url="http://x.test",
    )


def test_an_open_session_offers_the_payment_element(api, session):
    answer = api.client.get(f"/c/pay/{session['id']}")
    assert answer.status_code == 200
    assert f'data-secret="{session["payment_intent"]}_secret_' in answer.text
    assert "100 USD of &lt;credit&gt;" in answer.text
    assert "Pay $25.00" in answer.text
    assert 'href="http://shop.test/no"' in answer.text


def test_an_unpaid_session_leads_back_to_itself(api, session):
    answer = api.client.get(f"/c/pay/{session['id']}/done")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/c/pay/{session['id']}")


def test_a_paid_session_leads_to_the_success_url_with_its_id(api, session):
    pay(api, session)
    answer = api.client.get(f"/c/pay/{session['id']}/done")
    assert answer.headers["location"] == f"http://shop.test/ok?s={session['id']}"


def test_a_paid_session_takes_no_second_payment(api, session):
    pay(api, session)
    answer = api.client.get(f"/c/pay/{session['id']}")
    assert answer.status_code == 410
    assert "Already paid" in answer.text
    assert "data-secret" not in answer.text


def test_an_expired_session_says_so(api, session):
    api.post(f"checkout/sessions/{session['id']}/expire")
    assert "has expired" in api.client.get(f"/c/pay/{session['id']}").text


def test_an_unknown_session_is_not_found(api):
    assert api.client.get("/c/pay/cs_2").status_code == 404


def forget_the_shops_complaint(page):
    """The shop's page without a secret mounts nothing, and says so, on a slow machine somewhat later."""
    page.wait_for_load_state("networkidle")
    page.complaints.clear()


@pytest.mark.browser
def test_a_purchase_completes_the_session_and_returns(page, api, shop):
    product = {"name": "Prepaid credit"}
    item = {"price_data": {"currency": "usd", "unit_amount": 2500, "product_data": product}, "quantity": 2}
    url = f"{shop}/?done=1&redirect_status=bought"
    session = api.post("checkout/sessions", mode="payment", line_items=[item], success_url=url)
    page.goto(session["url"])
    expect(page.get_by_role("row", name="Prepaid credit")).to_contain_text("$50.00")
    page.get_by_label("E-mail").fill("ada@example.com")
    type_card(page.frame_locator(".element iframe"))
    page.get_by_role("button", name="Pay $50.00").click()
    expect(page.locator("body")).to_have_attribute("data-done", "bought")
    forget_the_shops_complaint(page)
    bought = api.get(f"checkout/sessions/{session['id']}")
    assert (bought["status"], bought["payment_status"]) == ("complete", "paid")
    assert bought["customer_details"]["email"] == "ada@example.com"


@pytest.mark.browser
def test_an_address_and_a_tax_id_come_before_the_tax(page, api, shop):
    item = {"price_data": {"currency": "usd", "unit_amount": 10_000, "product_data": {"name": "Credit"}}, "quantity": 1}
    asks = {"automatic_tax": {"enabled": True}, "tax_id_collection": {"enabled": True}}
    known = {"customer_email": "a@b.de", "success_url": f"{shop}/?done=1&redirect_status=bought"}
    dollars = {"adaptive_pricing": {"enabled": False}}
    session = api.post("checkout/sessions", mode="payment", line_items=[item], **known, **asks, **dollars)
    page.goto(session["url"])
    page.get_by_label("Business name").fill("ACME")
    page.get_by_label("Country").select_option("DE")
    page.get_by_label("Address").fill("Straße 1")
    page.get_by_label("Postal code").fill("10115")
    page.get_by_label("City").fill("Berlin")
    page.get_by_label("Tax ID").fill("FR123456789")
    page.complaints.clear()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_have_text("This is no tax ID of the country.")
    page.complaints.clear()  # The browser complains of the refused form itself.
    expect(page.get_by_label("Country")).to_have_value("DE")
    page.get_by_label("Tax ID").fill("")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("row", name="Tax")).to_contain_text("$19.00")
    frame = page.frame_locator(".element iframe")
    expect(frame.get_by_label("Card number")).to_be_enabled()
    frame.get_by_label("Card number").press_sequentially("4242424242424242")
    frame.get_by_label("Expiration date").press_sequentially("1234")
    frame.get_by_label("Security code").press_sequentially("123")
    expect(frame.get_by_label("Country")).to_be_hidden()
    page.get_by_role("button", name="Pay $119.00").click()
    expect(page.locator("body")).to_have_attribute("data-done", "bought")
    forget_the_shops_complaint(page)
    bought = api.get(f"checkout/sessions/{session['id']}")
    assert (bought["status"], bought["customer_details"]["name"]) == ("complete", "ACME")
    billed = api.get(f"payment_intents/{session['payment_intent']}", expand=["payment_method"])["payment_method"]
    assert billed["billing_details"]["address"]["city"] == "Berlin"


@pytest.mark.browser
def test_a_saved_card_completes_a_setup_session(page, api, shop):
    customer = api.customer()
    url = f"{shop}/?done=1&redirect_status=saved&id={{CHECKOUT_SESSION_ID}}"
    session = api.post("checkout/sessions", mode="setup", currency="usd", customer=customer["id"], success_url=url)
    page.goto(session["url"])
    type_card(page.frame_locator(".element iframe"), "4000002760003184")
    page.get_by_role("button", name="Save").click()
    page.frame_locator("dialog iframe").get_by_role("button", name="Complete").click()
    expect(page.locator("body")).to_have_attribute("data-done", "saved")
    assert page.url.endswith(f"id={session['id']}")
    forget_the_shops_complaint(page)
    assert len(api.get("payment_methods", customer=customer["id"])["data"]) == 1
