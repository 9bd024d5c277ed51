"""A developer looks into the sandbox, moves its clock and makes things go wrong."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.sync_api import expect

from billing_portal.sandbox.browser import controls, json_view, markup, money

browser = pytest.mark.browser


@browser
def test_objects_lead_to_the_objects_they_name(page, api, origin):
    customer = api.customer("pm_card_visa")
    page.goto(f"{origin}/_sandbox/")
    page.get_by_role("link", name="payment_method", exact=True).click()
    page.get_by_role("link", name="pm_").click()
    expect(page.locator(".json")).to_contain_text('"last4": "4242"')
    page.locator(".json").get_by_role("link", name=customer["id"]).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(customer["id"])
    expect(page.get_by_text("Named by")).to_be_visible()
    expect(page.get_by_role("link", name="pm_").first).to_be_visible()


@browser
def test_the_clock_moves_on_by_a_month(page, api, origin):
    before = datetime.fromisoformat(api.client.get("/_sandbox/clock").json()["now"])
    page.goto(f"{origin}/_sandbox/")
    page.get_by_role("button", name="+1 month").click()
    expect(page.get_by_role("status")).to_contain_text("The clock moved on by 1 month.")
    after = datetime.fromisoformat(api.client.get("/_sandbox/clock").json()["now"])
    assert timedelta(days=28) <= after - before < timedelta(days=32)


@browser
def test_a_fault_is_set_and_ended(page, api, origin):
    page.goto(f"{origin}/_sandbox/faults/")
    form = page.locator("form", has=page.get_by_label("Decline code"))
    form.get_by_label("How many").fill("3")
    form.get_by_label("Decline code").select_option("insufficient_funds")
    form.get_by_role("button", name="Set").click()
    expect(page.get_by_text("Left: 3 (insufficient_funds)")).to_be_visible()
    expected = {"count": 3, "code": "insufficient_funds"}
    assert api.client.get("/_sandbox/faults").json()["decline_next"] == expected
    form.get_by_label("How many").fill("0")
    form.get_by_role("button", name="Set").click()
    expect(page.get_by_text("Left: 3")).to_have_count(0)
    assert api.client.get("/_sandbox/faults").json()["decline_next"] == {}


@browser
def test_failing_requests_answer_with_the_chosen_status(page, api, origin):
    page.goto(f"{origin}/_sandbox/faults/")
    form = page.locator("form", has=page.get_by_label("Answer with"))
    form.get_by_label("Answer with").select_option("429")
    form.get_by_label("Path contains").fill("/v1/customers")
    form.get_by_role("button", name="Set").click()
    expect(page.get_by_role("status")).to_have_text("Set.")
    assert api.client.get("/v1/customers").status_code == 429
    assert api.client.get("/v1/customers").status_code == 200


@browser
def test_reset_asks_first(page, api, origin):
    api.customer()
    page.goto(f"{origin}/_sandbox/")
    page.get_by_role("link", name="Reset").click()
    page.get_by_role("link", name="Keep it").click()
    assert len(api.get("customers")["data"]) == 1
    page.get_by_role("link", name="Reset").click()
    page.get_by_role("button", name="Forget everything").click()
    expect(page.get_by_role("status")).to_have_text("Everything is forgotten.")
    assert api.get("customers")["data"] == []


@browser
def test_events_show_whether_they_were_delivered(page, api, origin):
    api.post("webhook_endpoints", url="http://127.0.0.1:9/nobody", enabled_events=["customer.created"])
    api.customer()
    api.control("webhooks/flush")
    page.goto(f"{origin}/_sandbox/events?type=customer.created")
    row = page.get_by_role("row", name="customer.created")
    expect(row).to_contain_text("pending")
    row.get_by_role("link", name="customer.created").click()
    expect(page.get_by_role("heading", name="Deliveries")).to_be_visible()
    expect(page.get_by_text("http://127.0.0.1:9/nobody")).to_be_visible()


def test_pages_forbid_inline_code_and_foreign_frames(api, origin):
    policy = httpx.get(f"{origin}/_sandbox/", trust_env=False).headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    frame = httpx.get(f"{origin}/elements/payment-frame", trust_env=False).headers["content-security-policy"]
    assert "frame-ancestors 'self' http://localhost:* http://127.0.0.1:*" in frame


def test_an_unknown_object_is_not_found(api, origin):
    assert httpx.get(f"{origin}/_sandbox/objects/customer/cus_none", trust_env=False).status_code == 404


@pytest.mark.parametrize(
    ("now", "step", "expected"),
    [
        ("2027-01-31T10:00:00", "month", "2027-02-28T10:00:00"),
        ("2026-12-15T10:00:00", "month", "2027-01-15T10:00:00"),
        ("2026-12-31T23:30:00", "hour", "2027-01-01T00:30:00"),
        ("2028-02-28T00:00:00", "day", "2028-02-29T00:00:00"),
    ],
)
def test_a_step_ends_where_a_calendar_says(now, step, expected):
    start = datetime.fromisoformat(now).replace(tzinfo=UTC).timestamp()
    assert datetime.fromtimestamp(controls.later(start, step), UTC).isoformat() == f"{expected}+00:00"


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (123456, "usd", "$1,234.56"),
        (-5, "eur", "-€0.05"),
        (1200, "jpy", "¥1,200"),
        (1234567, "kwd", "KWD 1,234.567"),
        (0, "chf", "CHF 0.00"),
        (None, "usd", "–"),
    ],
)
def test_amounts_have_their_currencys_decimals(amount, currency, text):
    assert money.display(amount, currency) == text


def test_markup_escapes_whatever_is_not_markup():
    assert markup.fill("<b>$name</b>", name="<i>") == "<b>&lt;i&gt;</b>"
    assert markup.fill("$inner", inner=markup.fill("<b>$n</b>", n="&")) == "<b>&amp;</b>"


def test_json_is_escaped_and_ids_are_linked():
    class Known:
        base_url = "http://127.0.0.1:1"

        class store:  # noqa: N801
            kind_of = {"cus_1": "customer"}

    shown = json_view.show(Known, {"customer": "cus_1", "name": "<b>", "paid": True, "url": "http://127.0.0.1:1/i/x"})
    assert '"<a href="/_sandbox/objects/customer/cus_1">cus_1</a>"' in shown
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert '<a href="/i/x">' in shown
