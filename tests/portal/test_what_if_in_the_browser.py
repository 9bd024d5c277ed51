"""What if, in Chromium: wide and narrow, light and dark, and an answer that comes while one looks."""

import os
from pathlib import Path

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from tests import looks
from tests.portal.test_changes_in_the_browser import opened
from tests.portal.test_what_if import _october, used  # noqa: F401 - fixtures
from tests.usage.conftest import priced, record  # noqa: F401 - fixtures
from usage.models import WhatIf
from usage.what_if import jobs
from usage.what_if.choices import Choice

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def waiting(used, alice, now) -> WhatIf:  # noqa: F811
    return jobs.ask(organization=used, by=alice, choice=Choice(llm="gpt_5"), most_months=3, now=now)


@looks.of_page
def test_the_pages_are_sound(chromium, live_server, alice, waiting, now, width, theme):

    choice = Choice(llm="gpt_4o_mini", voice="deepgram_tts")
    other = jobs.ask(organization=waiting.organization, by=alice, choice=choice, most_months=2, now=now)
    jobs.run(other.pk, clock=lambda: now)
    page, complaints = opened(chromium, live_server.url, alice, width=width, theme=theme)
    organization = waiting.organization.public_id
    for name, url in {
        "what-ifs": reverse("what_ifs", args=[organization]),
        "what-if": reverse("what_if", args=[organization, other.public_id]),
        "what-if-waiting": reverse("what_if", args=[organization, waiting.public_id]),
    }.items():
        page.goto(url)
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}-{width}-{theme}.png", full_page=True)
        looks.assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") == width, name
    assert complaints == []


def test_an_answer_comes_while_one_looks(chromium, live_server, alice, waiting, now):
    page, complaints = opened(chromium, live_server.url, alice)
    page.goto(reverse("what_if", args=[waiting.organization.public_id, waiting.public_id]))
    expect(page.get_by_text("0 of 2").first).to_be_visible()
    jobs.run(waiting.pk, clock=lambda: now)
    expect(page.get_by_text("The same calls would have cost")).to_be_visible()
    assert complaints == []
