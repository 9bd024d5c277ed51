"""A customer saves or uses a card in the Payment Element, and the page learns what Stripe.js would tell it."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

FEATURES = {
    "payment_method_save": "enabled",
    "payment_method_save_usage": "off_session",
    "payment_method_redisplay": "enabled",
    "payment_method_remove": "enabled",
}


def open_shop(page, shop, intent, **query):
    query = {"secret": intent["client_secret"], **query}
    page.goto(shop + "/?" + "&".join(f"{name}={value}" for name, value in query.items()))
    expect(page.locator("#result")).to_contain_text("ready")
    return page.frame_locator("#element iframe")


def type_card(frame, number="4242424242424242", expiry="1234", cvc="123", postal="94110"):
    expect(frame.get_by_label("Card number")).to_be_enabled()
    frame.get_by_label("Card number").press_sequentially(number)
    frame.get_by_label("Expiration date").press_sequentially(expiry)
    frame.get_by_label("Security code").press_sequentially(cvc)
    frame.get_by_label("ZIP code").fill(postal)


def pay(page):
    page.get_by_role("button", name="Save", exact=True).click()


def open_customer_session(api):
    customer = api.customer("pm_card_visa", "pm_card_mastercard")
    component = {"payment_element": {"enabled": True, "features": FEATURES}}
    session = api.post("customer_sessions", customer=customer["id"], components=component)
    return customer, session["client_secret"]


def watch_calls(page):
    """Collect what the browser sends to Stripe's API, as pairs of path and parameters."""
    sent = []

    def remember(request):
        path = urlsplit(request.url).path
        if path.startswith("/v1/"):
            sent.append((path, dict(parse_qsl(request.post_data))))

    page.on("request", remember)
    return sent


def test_a_card_is_saved_and_never_seen_by_the_page(page, shop, api):
    intent = api.setup_intent()
    sent = []
    page.on("request", lambda request: sent.append((request.frame.url, request.post_data or "")))
    frame = open_shop(page, shop, intent)
    type_card(frame)
    expect(page.locator("body")).to_have_attribute("data-change", "card true")
    pay(page)
    expect(page.locator("#result")).to_contain_text(f"{intent['id']} succeeded")
    with_card = [url for url, body in sent if "4242424242424242" in body]
    assert with_card
    assert not any(url.startswith(shop) for url in with_card)


def test_the_confirmation_is_what_the_api_documents(page, shop, api):
    intent = api.setup_intent()
    sent = watch_calls(page)
    frame = open_shop(page, shop, intent)
    type_card(frame)
    pay(page)
    expect(page.locator("#result")).to_contain_text("succeeded")
    [(_, method), (_, confirmation)] = sent
    assert method == {
        "type": "card",
        "allow_redisplay": "limited",
        "card[number]": "4242424242424242",
        "card[exp_month]": "12",
        "card[exp_year]": "2034",
        "card[cvc]": "123",
        "billing_details[address][country]": "US",
        "billing_details[address][postal_code]": "94110",
    }
    assert confirmation.pop("payment_method").startswith("pm_")
    assert "Chrome" in confirmation.pop("mandate_data[customer_acceptance][online][user_agent]")
    assert confirmation == {
        "client_secret": intent["client_secret"],
        "return_url": f"{shop}/?done=1",
        "use_stripe_sdk": "true",
        "mandate_data[customer_acceptance][type]": "online",
    }


@pytest.mark.parametrize(
    ("number", "decline_code", "text"),
    [
        ("4000000000000002", "generic_decline", "Your card was declined."),
        ("4000000000009995", "insufficient_funds", "Your card has insufficient funds."),
    ],
)
def test_a_decline_is_shown_in_the_frame_and_returned(page, shop, api, number, decline_code, text):
    frame = open_shop(page, shop, api.setup_intent())
    type_card(frame, number)
    pay(page)
    expect(frame.get_by_role("alert")).to_have_text(text)
    expect(page.locator("#result")).to_contain_text(f"error card_error card_declined {decline_code}")
    expect(frame.get_by_label("Card number")).to_be_enabled()


def test_a_declined_customer_succeeds_with_another_card(page, shop, api):
    intent = api.setup_intent()
    frame = open_shop(page, shop, intent)
    type_card(frame, "4000000000000002")
    pay(page)
    expect(frame.get_by_role("alert")).to_be_visible()
    frame.get_by_text("Test cards").click()
    frame.get_by_role("button", name="Succeeds").click()
    expect(frame.get_by_role("alert")).to_be_hidden()
    pay(page)
    expect(page.locator("#result")).to_contain_text(f"{intent['id']} succeeded")


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ({"number": "424242"}, "incomplete_number"),
        ({"number": "4242424242424241"}, "invalid_number"),
        ({"expiry": "0120"}, "invalid_expiry_year_past"),
        ({"expiry": "12"}, "incomplete_expiry"),
        ({"cvc": "12"}, "incomplete_cvc"),
        ({"postal": ""}, "incomplete_zip"),
    ],
)
def test_a_mistyped_card_is_refused_without_asking_the_api(page, shop, api, typed, code):
    sent = watch_calls(page)
    frame = open_shop(page, shop, api.setup_intent())
    type_card(frame, **typed)
    pay(page)
    expect(page.locator("#result")).to_contain_text(f"invalid {code}")
    expect(frame.locator("[aria-invalid=true]")).to_have_count(1)
    assert sent == []


def test_numbers_and_dates_are_spaced_while_typing(page, shop, api):
    frame = open_shop(page, shop, api.setup_intent())
    type_card(frame, "378282246310005", expiry="3/31", cvc="1234")
    expect(frame.get_by_label("Card number")).to_have_value("3782 822463 10005")
    expect(frame.get_by_label("Expiration date")).to_have_value("03 / 31")
    expect(frame.locator("#brand")).to_have_text("amex")
    for key in ("End", "Backspace", "Backspace", "Backspace"):
        frame.get_by_label("Expiration date").press(key)
    expect(frame.get_by_label("Expiration date")).to_have_value("0")


def test_link_pays_after_the_one_time_code(page, shop, api):
    intent = api.setup_intent()
    frame = open_shop(page, shop, intent)
    frame.get_by_role("tab", name="Link").click()
    pay(page)
    expect(page.locator("#result")).to_contain_text("invalid incomplete_link")
    frame.get_by_label("Email").fill("ada@example.com")
    frame.get_by_role("button", name="Pay with Link").click()
    frame.get_by_label("One-time code").fill("123456")
    expect(frame.get_by_text("That code is not right.")).to_be_visible()
    frame.get_by_label("One-time code").fill("000000")
    expect(frame.get_by_role("status")).to_have_text("Paying with Link as ada@example.com")
    pay(page)
    expect(page.locator("#result")).to_contain_text(f"{intent['id']} succeeded")
    method = api.get(f"setup_intents/{intent['id']}", expand=["payment_method"])["payment_method"]
    assert (method["type"], method["link"]["email"]) == ("link", "ada@example.com")


def test_saved_cards_are_offered_first_and_can_be_removed(page, shop, api):
    customer, secret = open_customer_session(api)
    intent = api.setup_intent(customer=customer["id"])
    frame = open_shop(page, shop, intent, session=secret)
    expect(frame.get_by_role("radio")).to_have_count(2)
    removed = frame.get_by_role("radio").first.get_attribute("value")
    frame.get_by_role("button", name="Remove").first.click()
    expect(frame.get_by_role("radio")).to_have_count(1)
    expect(page.locator("#result")).to_contain_text(f"removed {removed} true")
    pay(page)
    expect(page.locator("#result")).to_contain_text("succeeded")
    assert api.get(f"payment_methods/{removed}")["customer"] is None
    [left] = api.get("payment_methods", customer=customer["id"])["data"]
    assert api.get(f"setup_intents/{intent['id']}")["payment_method"] == left["id"]


def test_the_save_box_says_whether_a_card_may_be_shown_again(page, shop, api):
    customer, secret = open_customer_session(api)
    frame = open_shop(page, shop, api.payment_intent(customer=customer["id"]), session=secret)
    frame.get_by_role("tab", name="Card").click()
    type_card(frame)
    frame.get_by_label("Save payment details").check()
    pay(page)
    expect(page.locator("#result")).to_contain_text("succeeded")
    newest = api.get("payment_methods", customer=customer["id"])["data"][0]
    assert newest["allow_redisplay"] == "always"


def test_the_customer_returns_to_the_page_that_asked_for_a_redirect(page, shop, api):
    intent = api.setup_intent()
    frame = open_shop(page, shop, intent, redirect="always")
    type_card(frame)
    page.route("**/?done=1*", lambda route: route.fulfill(body="<!doctype html><title>Back</title>Back"))
    pay(page)
    expect(page.get_by_text("Back")).to_be_visible()
    expected = f"setup_intent={intent['id']}&setup_intent_client_secret={intent['client_secret']}"
    assert page.url == f"{shop}/?done=1&{expected}&redirect_status=succeeded"


def test_an_unknown_secret_is_a_load_error(page, shop, api):
    page.goto(f"{shop}/?secret=seti_9_secret_x")
    expect(page.locator("#result")).to_contain_text("loaderror resource_missing")
    assert any("400" in complaint for complaint in page.complaints)
    page.complaints.clear()
