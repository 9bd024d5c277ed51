"""A customer manages payment methods in the hosted customer portal."""

import pytest
from playwright.sync_api import expect

from tests.stripe.browser.test_payment_element import type_card

pytestmark = pytest.mark.browser


@pytest.fixture
def customer(api):
    return api.customer("pm_card_mastercard", "pm_card_visa")


@pytest.fixture
def session(api, customer):
    return api.post("billing_portal/sessions", customer=customer["id"], return_url="http://127.0.0.1:9/back")


def test_the_portal_shows_methods_and_invoices_and_the_way_back(page, api, customer, session):
    invoice = api.invoice(customer["id"])
    page.goto(session["url"])
    expect(page.get_by_role("heading", name="Ada Lovelace")).to_be_visible()
    expect(page.get_by_role("listitem")).to_have_count(2)
    expect(page.get_by_role("listitem").filter(has_text="Visa")).to_contain_text("default")
    expect(page.get_by_role("link", name="Return to")).to_have_attribute("href", "http://127.0.0.1:9/back")
    page.get_by_role("link", name=invoice["number"]).click()
    expect(page.locator(".amount")).to_have_text("$50.50")


def test_another_card_becomes_the_default(page, api, customer, session):
    page.goto(session["url"])
    page.get_by_role("listitem").filter(has_text="Mastercard").get_by_role("button", name="Make default").click()
    expect(page.get_by_role("listitem").filter(has_text="Mastercard")).to_contain_text("default")


def test_a_card_is_removed(page, api, customer, session):
    page.goto(session["url"])
    page.get_by_role("listitem").filter(has_text="Mastercard").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("listitem")).to_have_count(1)
    assert len(api.get("payment_methods", customer=customer["id"])["data"]) == 1


def test_a_new_card_is_saved_as_the_default(page, api, customer, session):
    page.goto(session["url"])
    page.get_by_role("button", name="Add payment method").click()
    type_card(page.frame_locator(".element iframe"), "5200828282828210")
    page.get_by_role("button", name="Save payment method").click()
    expect(page.get_by_role("listitem")).to_have_count(3)
    expect(page.get_by_role("listitem").filter(has_text="8210")).to_contain_text("default")


def test_an_unknown_session_opens_nothing(api, session):
    assert api.client.get("/p/session/guess").status_code == 404
