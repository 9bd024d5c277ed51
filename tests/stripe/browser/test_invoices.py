"""A customer opens the address in an invoice's e-mail, and pays."""

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.stripe.browser.test_payment_element import type_card

pytestmark = pytest.mark.browser


@pytest.fixture
def open_invoice(api):
    """An invoice of 50.50 USD whose customer has a card that works and one that does not."""
    return api.invoice(api.customer("pm_card_chargeCustomerFail", "pm_card_visa")["id"])


def test_the_invoice_says_what_is_owed_and_for_what(page, open_invoice):
    page.goto(open_invoice["hosted_invoice_url"])
    expect(page.get_by_role("heading", level=1)).to_contain_text(open_invoice["number"])
    expect(page.locator(".amount")).to_have_text("$50.50")
    expect(page.get_by_role("row", name="Agent minutes")).to_contain_text("$42.00")
    expect(page.get_by_role("row", name="Amount due")).to_contain_text("$50.50")
    expect(page.get_by_role("banner").get_by_text("Sandbox", exact=True)).to_be_visible()


def test_a_saved_card_pays(page, api, open_invoice):
    page.goto(open_invoice["hosted_invoice_url"])
    page.get_by_role("button", name="Pay with this method").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Invoice paid")
    expect(page.get_by_role("button")).to_have_count(0)
    assert api.get(f"invoices/{open_invoice['id']}")["status"] == "paid"
    page.get_by_role("link", name="Receipt").click()
    expect(page.locator(".amount")).to_have_text("$50.50")
    expect(page.get_by_text("Visa •••• 4242")).to_be_visible()


def test_a_declined_saved_card_says_so_and_another_may_be_tried(page, api, open_invoice):
    page.goto(open_invoice["hosted_invoice_url"])
    page.get_by_label("Visa •••• 0341").check()
    page.get_by_role("button", name="Pay with this method").click()
    expect(page.get_by_role("alert").first).to_have_text("Your card was declined.")
    page.get_by_label("Visa •••• 4242").check()
    page.get_by_role("button", name="Pay with this method").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Invoice paid")


def test_a_new_card_pays(page, api, open_invoice):
    page.goto(open_invoice["hosted_invoice_url"])
    type_card(page.frame_locator(".element iframe"))
    page.get_by_role("button", name="Pay $50.50").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Invoice paid")
    assert api.get(f"invoices/{open_invoice['id']}")["status"] == "paid"


def test_a_challenged_new_card_pays_after_the_bank_was_answered(page, api, open_invoice):
    page.goto(open_invoice["hosted_invoice_url"])
    type_card(page.frame_locator(".element iframe"), "4000002760003184")
    page.get_by_role("button", name="Pay $50.50").click()
    page.frame_locator("dialog iframe").get_by_role("button", name="Complete").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Invoice paid")


def test_a_challenged_saved_card_leads_to_the_bank_and_back(page, api):
    invoice = api.invoice(api.customer("pm_card_authenticationRequired")["id"])
    page.goto(invoice["hosted_invoice_url"])
    page.get_by_role("button", name="Pay with this method").click()
    expect(page.get_by_text("$50.50")).to_be_visible()
    page.goto(invoice["hosted_invoice_url"])
    page.get_by_role("link", name="Confirm with my bank").click()
    page.get_by_role("button", name="Complete").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Invoice paid")


def test_the_pdf_is_downloaded(page, api, open_invoice):
    page.goto(open_invoice["hosted_invoice_url"])
    with page.expect_download() as download:
        page.get_by_role("link", name="Download PDF").click()
    content = download.value.path().read_bytes()
    assert content.startswith(b"%PDF-")
    assert b"(Agent minutes)" in content
    assert download.value.suggested_filename == f"Invoice-{open_invoice['number']}.pdf"
    answer = api.client.get(urlsplit(open_invoice["invoice_pdf"]).path)
    assert answer.headers["content-type"] == "application/pdf"


def test_a_guessed_address_opens_nothing(api, open_invoice):
    path = urlsplit(open_invoice["hosted_invoice_url"]).path
    wrong = f"{path}x"
    assert api.client.get(path).status_code == 200
    for address in (wrong, f"{wrong}/pdf"):
        assert api.client.get(address).status_code == 404
    assert api.client.post(f"{wrong}/pay").status_code == 404


def test_a_strangers_card_cannot_pay(api, open_invoice):
    stranger = api.customer("pm_card_visa", email="eve@example.com")
    card = stranger["invoice_settings"]["default_payment_method"]
    answer = api.client.post(urlsplit(open_invoice["hosted_invoice_url"]).path + "/pay", data={"payment_method": card})
    assert answer.status_code == 400
    assert api.get(f"invoices/{open_invoice['id']}")["status"] == "open"


def test_names_are_shown_as_text(page, api):
    customer = api.customer(name="<b>Ada</b> & <script>alert(1)</script>")
    page.goto(api.invoice(customer["id"])["hosted_invoice_url"])
    expect(page.get_by_text("<b>Ada</b> & <script>alert(1)</script>")).to_be_visible()


def test_a_customer_abroad_may_pay_in_their_own_currency(page, api):
    customer = api.customer("pm_card_visa", address={"country": "FR"})
    invoice = api.invoice(customer["id"])
    page.goto(invoice["hosted_invoice_url"])
    expect(page.get_by_role("button", name="$50.50", exact=True)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="€45.45", exact=True).click()
    expect(page.get_by_role("button", name="Pay €45.45")).to_be_visible()
    page.get_by_role("button", name="Pay with this method").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Invoice paid")
    expect(page.get_by_text("€45.45")).to_be_visible()
    [charge] = api.get("charges")["data"]
    assert charge["presentment_details"] == {"presentment_amount": 4545, "presentment_currency": "eur"}
    assert (charge["amount"], charge["currency"]) == (5050, "usd")
    page.get_by_role("link", name="Receipt").click()
    expect(page.get_by_text("€45.45")).to_be_visible()


def test_a_choice_of_currency_ends_when_the_customer_leaves(api):
    invoice = api.invoice(api.customer("pm_card_visa", address={"country": "FR"})["id"])
    path = urlsplit(invoice["hosted_invoice_url"]).path
    assert api.client.post(f"{path}/currency", data={"currency": "eur"}).status_code == 303
    api.post(f"invoices/{invoice['id']}/pay", off_session=True)
    [charge] = api.get("charges")["data"]
    assert charge.get("presentment_details") is None
