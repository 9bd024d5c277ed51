"""Prices of calls from the form on the desk to the customer's page and mail, and back before they start."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser

from accounts import clock
from accounts.models import Letter, Organization, User
from billing_portal.portal import price_letters
from billing_portal.support import price_forms
from tests.conftest import NOW
from tests.support.test_desk import text_of
from tests.support.test_organization_desk import colleague
from tests.support.test_outcome_rules import look
from tests.test_tenant_matrix import logged_in
from tests.usage.conftest import priced, record
from tests.usage.test_price_proposals import september
from usage.models import PriceBook, PriceProposal

__all__ = ["colleague", "look", "priced", "record", "september"]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


def filled(**changes: Any) -> dict[str, Any]:
    """Return the form as it is shown for the list prices, with some rates changed by product."""
    newest = price_forms.newest_of(PriceBook.objects.get(reference="parley-usd"))
    rates = price_forms.rates_of(newest)
    data: dict[str, Any] = {"rates-TOTAL_FORMS": rates.total_form_count(), "rates-INITIAL_FORMS": len(rates.initial)}
    for number, each in enumerate(rates.initial):
        values = each | {"rate": changes.pop(each["product"], each["rate"])}
        data |= {f"rates-{number}-{name}": value for name, value in values.items()}
    for number in range(len(rates.initial), rates.total_form_count()):
        new = {"component": "platform", "unit": "minute", "minimum_ms": 0, "increment_ms": 1000}
        data |= {f"rates-{number}-{name}": value for name, value in new.items()}
    version = {"starts_at": "2026-12-01T00:00", "grace_ms": 0, "free_ms": 0, "token_threshold": 3500}
    texts = {"note": "Voices cost us more", "reason": "A new contract", "key": str(uuid.uuid4())}
    return data | version | texts | changes


def step(client: Client, proposal: PriceProposal, verb: str, **fields: Any) -> str:
    return text_of(client.post(reverse(f"staff_prices_{verb}", args=[proposal.public_id]), fields, follow=True))


def test_prices_go_from_the_form_to_the_customer_and_back(
    desk: Client, colleague: Client, september: Organization, alice: User
) -> None:
    url = reverse("staff_prices_new", args=["parley-usd"])
    assert 'value="0.07"' in desk.get(url).content.decode()  # it begins with the prices in force
    answer = desk.post(url, filled(elevenlabs_tts="0.14"))
    assert answer.status_code == 302, text_of(answer)
    proposal = PriceProposal.objects.get()
    text = text_of(desk.get(answer["Location"]))
    assert "What it would have done to September 2026" in text
    assert "ElevenLabs, per minute" in text
    assert "0.07 USD" in text
    assert "1 of 1" in text
    assert "A second member of staff has been asked" in step(desk, proposal, "ask")
    assert f"/staff/prices/{proposal.public_id}/" in Letter.objects.get(reference__startswith="prices-asked:").html
    assert "is entered" in step(colleague, proposal, "approve")

    assert [price_letters.tell(now=NOW), price_letters.tell(now=NOW)] == [1, 0]
    letter = Letter.objects.get(reference__startswith="prices-coming:")
    assert letter.to == alice.email
    assert "On your September 2026, these prices would have cost $" in letter.text
    assert "ElevenLabs, per minute: $0.07, from then on $0.14" in letter.text
    page = text_of(logged_in(alice).get(reverse("prices", args=[september.public_id])))
    assert "On your September 2026, these prices would have cost $" in page
    assert "Until then" in page
    assert "GPT-5" in page

    said = step(desk, proposal, "revoke", **{"revoke-reason": "The contract fell through."})
    assert "is told that it does not come" in said
    assert [price_letters.tell_of_ends(now=NOW), price_letters.tell_of_ends(now=NOW)] == [1, 0]
    ended = Letter.objects.get(reference__startswith="prices_taken_back:")
    assert "They do not come: The contract fell through." in ended.text
    assert "September" not in text_of(logged_in(alice).get(reverse("prices", args=[september.public_id])))


def test_a_wrong_form_says_what_is_wrong_beside_the_rate(desk: Client, september: Organization) -> None:
    url = reverse("staff_prices_new", args=["parley-usd"])
    twice = filled() | {"rates-1-product": "platform"}
    assert "appears more than once" in text_of(desk.post(url, twice))
    unnamed = filled()
    last = int(unnamed["rates-TOTAL_FORMS"]) - 1
    assert "Name the product" in text_of(desk.post(url, unnamed | {f"rates-{last}-rate": "1"}))
    assert "which has passed" in text_of(desk.post(url, filled(starts_at="2026-10-01T00:00")))
    assert not PriceProposal.objects.exists()


def test_who_may_not_see_proposals_is_refused(client: Client, september: Organization, desk: Client) -> None:
    desk.logout()
    for name, arguments in (("staff_prices_list", []), ("staff_prices_new", ["parley-usd"])):
        assert desk.get(reverse(name, args=arguments)).status_code == 302


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_the_pages_are_sound_on_wide_and_narrow_screens(
    desk: Client,
    colleague: Client,
    september: Organization,
    alice: User,
    live_server: Any,
    chromium: Browser,
    look: Callable[..., None],
) -> None:
    url = reverse("staff_prices_new", args=["parley-usd"])
    proposal_url = desk.post(url, filled(elevenlabs_tts="0.08", gpt_5="0.03"))["Location"]
    desk.post(url, filled(openai_tts="0.12", starts_at="2026-11-01T00:00"))
    entered = PriceProposal.objects.latest("id")
    step(desk, entered, "ask")
    step(colleague, entered, "approve")
    look(desk, {"prices": reverse("staff_prices_list"), "prices-new": url, "prices-proposal": proposal_url})
    look(logged_in(alice), {"customer-prices": reverse("prices", args=[september.public_id])})
