"""Hosted Checkout sends the customer back only when the session's intent has succeeded."""

import pytest
from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.testclient import TestClient

from billing_portal.sandbox.browser import checkout
from tests.stripe.browser.test_payment_element import type_card


class Box:
    """An engine with one session over one intent."""

    def __init__(self, **session):
        self.intent = {
            "id": "pi_1",
            "object": "payment_intent",
            "client_secret": "pi_1_secret_x",
            "status": "requires_payment_method",
            "amount": 2500,
            "currency": "usd",
        }
        defaults = {"id": "cs_1", "status": "open", "payment_intent": "pi_1", "currency": "usd", "amount_total": 2500}
        addresses = {"success_url": "http://shop.test/ok?s={CHECKOUT_SESSION_ID}", "cancel_url": "http://shop.test/no"}
        self.session = {**defaults, **addresses, **session}

    def objects(self, kind):
        return {"payment_intent": [self.intent], "checkout.session": [self.session]}.get(kind, [])

    async def call(self, method, path, params):
        item = {"description": "100 USD of <credit>", "quantity": 1, "amount_total": 2500, "currency": "usd"}
        return 200, {"data": [item]}


@pytest.fixture
def box():
    return Box()


@pytest.fixture
def client(box):
    app = Starlette(routes=checkout.routes)
    app.state.sandbox = box
    return TestClient(app, follow_redirects=False)


def test_an_open_session_offers_the_payment_element(client):
    answer = client.get("/c/pay/cs_1")
    assert answer.status_code == 200
    assert 'data-secret="pi_1_secret_x"' in answer.text
    assert "100 USD of &lt;credit&gt;" in answer.text
    assert "Pay $25.00" in answer.text
    assert 'href="http://shop.test/no"' in answer.text


def test_an_unpaid_session_leads_back_to_itself(client):
    answer = client.get("/c/pay/cs_1/done")
    assert (answer.status_code, answer.headers["location"]) == (303, "/c/pay/cs_1")


def test_a_paid_session_leads_to_the_success_url_with_its_id(client, box):
    box.session["status"] = "complete"
    assert client.get("/c/pay/cs_1/done").headers["location"] == "http://shop.test/ok?s=cs_1"


@pytest.mark.parametrize(("status", "text"), [("complete", "Already paid"), ("expired", "has expired")])
def test_a_closed_session_takes_no_second_payment(client, box, status, text):
    box.session["status"] = status
    answer = client.get("/c/pay/cs_1")
    assert answer.status_code == 410
    assert text in answer.text
    assert "data-secret" not in answer.text


def test_an_unknown_session_is_not_found(client):
    assert client.get("/c/pay/cs_2").status_code == 404


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
    page.complaints.clear()  # The shop's page without a secret mounts nothing.
    bought = api.get(f"checkout/sessions/{session['id']}")
    assert (bought["status"], bought["payment_status"]) == ("complete", "paid")
    assert bought["customer_details"]["email"] == "ada@example.com"


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
    page.complaints.clear()
    assert len(api.get("payment_methods", customer=customer["id"])["data"]) == 1
