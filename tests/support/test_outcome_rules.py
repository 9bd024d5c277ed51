"""Outcome rules from the form on the desk to the customer's page and mail."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, Page

from accounts import clock
from accounts.models import Letter, Organization, User
from billing_portal.portal import rule_letters
from tests.conftest import NOW
from tests.support.test_desk import text_of
from tests.support.test_in_the_browser import as_staff
from tests.support.test_organization_desk import colleague
from tests.test_tenant_matrix import logged_in
from tests.usage.outcomes.conftest import ruled
from tests.usage.outcomes.test_proposals import september
from usage import tasks
from usage.models import RuleProposal
from usage.outcomes import impacts

__all__ = ["colleague", "ruled", "september"]
FORM = {
    "starts_at": "2026-12-01T00:00",
    "first": "qualification",
    "second": "disqualification",
    "third": "procedure_handoff",
    "fourth": "resolution",
    "price_resolution": "1.25",
    "price_procedure_handoff": "0.99",
    "price_disqualification": "0.99",
    "price_qualification": "9.99",
    "window_hours": "48",
    "confirming_replies": ["affirmative"],
    "confirming_rating": "4",
    "reversing_replies": ["needs_help"],
    "reversing_rating": "3",
    "escalation_reverses": "on",
    "note": "A rating of 3 no longer counts as help",
    "reason": "Ratings of 3 were disputed",
}


@pytest.fixture(autouse=True)
def _time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


def proposed(desk: Client, **changes: Any) -> RuleProposal:
    form = {**FORM, "key": str(uuid.uuid4()), **changes}
    answer = desk.post(reverse("staff_rules_new", args=["parley-usd"]), form)
    assert answer.status_code == 302, text_of(answer)
    return RuleProposal.objects.get(public_id=form["key"])


def step(client: Client, proposal: RuleProposal, verb: str, **fields: Any) -> str:
    name = f"staff_rules_{verb}"
    return text_of(client.post(reverse(name, args=[proposal.public_id]), fields, follow=True))


@pytest.mark.django_db
def test_rules_go_from_the_form_to_the_customer(
    desk: Client, colleague: Client, september: Organization, alice: User
) -> None:
    form = desk.get(reverse("staff_rules_new", args=["parley-usd"])).content.decode()
    assert 'value="0.99"' in form  # it begins with the rules in force
    proposal = proposed(desk)
    text = text_of(desk.get(reverse("staff_rules_proposal", args=[proposal.public_id])))
    assert "What it would have done to September 2026" in text
    assert "11.97 USD → 11.24 USD" in text
    assert "assumed resolution → no outcome" in text
    assert "A second member of staff has been asked" in step(desk, proposal, "ask")
    letter = Letter.objects.get(reference__startswith="rules-asked:")
    assert "$11.24" in letter.text
    assert f"/staff/outcome-rules/{proposal.public_id}/" in letter.html
    assert "You proposed this yourself" in step(desk, proposal, "approve")
    assert "is entered" in step(colleague, proposal, "approve")

    assert [rule_letters.tell(now=NOW), rule_letters.tell(now=NOW)] == [1, 0]
    told = Letter.objects.get(reference__startswith="rules-coming:")
    assert told.to == alice.email
    assert "On your September 2026, these rules would have cost $0.73 less." in told.text
    assert "Resolutions, each: $0.99, from then on $1.25" in told.text
    assert "Resolutions: 2 for $1.98; would have been 1 for $1.25" in told.text
    page = text_of(logged_in(alice).get(reverse("outcome_rules", args=[september.public_id])))
    assert "On your September 2026, these rules would have cost $0.73 less." in page
    assert "It is assumed when nothing was said for 48 hours" in page
    assert "Until then" in page


@pytest.mark.django_db
def test_rules_taken_back_before_their_start_are_told_to_those_who_were_told(
    desk: Client, colleague: Client, september: Organization, alice: User
) -> None:
    proposal = proposed(desk)
    step(desk, proposal, "ask")
    step(colleague, proposal, "approve")
    assert "Take these rules back before they start" in text_of(
        desk.get(reverse("staff_rules_proposal", args=[proposal.public_id]))
    )
    rule_letters.tell(now=NOW)
    assert "This field is required" in step(desk, proposal, "revoke")
    said = step(desk, proposal, "revoke", **{"revoke-reason": "The date was wrong."})
    assert "is told that it does not come" in said
    assert "“The date was wrong.”" in said
    assert [rule_letters.tell_of_ends(now=NOW), rule_letters.tell_of_ends(now=NOW)] == [1, 0]
    letter = Letter.objects.get(reference__startswith="rules_taken_back:")
    assert letter.to == alice.email
    assert "They do not come: The date was wrong." in letter.text
    page = text_of(logged_in(alice).get(reverse("outcome_rules", args=[september.public_id])))
    assert "On your September 2026" not in page


@pytest.mark.django_db
def test_a_wrong_form_says_what_is_wrong_beside_the_field(desk: Client, september: Organization) -> None:
    url = reverse("staff_rules_new", args=["parley-usd"])
    wrong = {**FORM, "key": str(uuid.uuid4()), "starts_at": "2026-10-01T00:00", "price_resolution": ""}
    assert "There is no price for resolution" in text_of(desk.post(url, wrong))
    wrong["price_resolution"] = "0.99"
    assert "which has passed. Choose a later instant" in text_of(desk.post(url, wrong))
    assert not RuleProposal.objects.exists()


@pytest.mark.django_db
def test_declined_rules_change_nothing_and_tell_nobody(
    desk: Client, colleague: Client, september: Organization
) -> None:
    proposal = proposed(desk)
    step(desk, proposal, "ask")
    assert "This field is required" in step(colleague, proposal, "decline")
    assert "Declined" in step(colleague, proposal, "decline", reason="Too early")
    assert rule_letters.tell(now=NOW) == 0
    assert "“Too early”" in text_of(desk.get(reverse("staff_rules_proposal", args=[proposal.public_id])))


@pytest.mark.django_db
def test_a_large_month_is_previewed_behind_the_page(
    desk: Client, september: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impacts, "AT_ONCE", 3)
    proposal = proposed(desk)
    page = desk.get(reverse("staff_rules_proposal", args=[proposal.public_id]))
    assert "0 of 1 organizations" in text_of(page)
    assert b'http-equiv="refresh"' in page.content
    tasks.preview_rules(proposal.pk)
    page = desk.get(reverse("staff_rules_proposal", args=[proposal.public_id]))
    assert "assumed resolution → no outcome" in text_of(page)


@pytest.mark.django_db
def test_staff_without_the_permission_neither_see_nor_decide(client: Client, desk: Client, september: Any) -> None:
    proposal = proposed(desk)
    User.objects.filter(email="sam@desk.example").update(is_superuser=False)
    for name, arguments in (("staff_rules_list", []), ("staff_rules_proposal", [proposal.public_id])):
        assert desk.get(reverse(name, args=arguments)).status_code == 403
    for name in ("staff_rules_approve", "staff_rules_decline", "staff_rules_preview", "staff_rules_withdraw"):
        assert desk.post(reverse(name, args=[proposal.public_id])).status_code == 403


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
    proposal = proposed(desk)
    entered = proposed(desk, starts_at="2026-11-01T00:00", price_qualification="12.50")
    step(desk, entered, "ask")
    step(colleague, entered, "approve")
    step(desk, proposal, "ask")
    staff = {
        "rules": reverse("staff_rules_list"),
        "rules-new": reverse("staff_rules_new", args=["parley-usd"]),
        "rules-proposal": reverse("staff_rules_proposal", args=[proposal.public_id]),
    }
    look(colleague, staff)
    look(logged_in(alice), {"customer-rules": reverse("outcome_rules", args=[september.public_id])})


def listen(page: Page, complaints: list[str]) -> None:
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: line.type in {"error", "warning"} and complaints.append(line.text))


@pytest.fixture
def look(live_server: Any, chromium: Browser) -> Callable[..., None]:
    """Return who opens pages on both widths: no complaint in the console, nothing that scrolls sideways."""

    def look(client: Client, pages: dict[str, str]) -> None:
        for width, theme in ((1360, "light"), (400, "dark")):
            context = as_staff(chromium, client, live_server.url, width=width, theme=theme)
            page = context.new_page()
            complaints: list[str] = []
            listen(page, complaints)
            for name, url in pages.items():
                answer = page.goto(url)
                assert answer is not None
                assert (answer.status, complaints) == (200, []), name
                if folder := os.environ.get("SCREENSHOTS"):
                    page.screenshot(path=Path(folder) / f"{name}-{width}-{theme}.png", full_page=True)
                overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                assert page.evaluate(overflow) <= 0, name
            context.close()

    return look
