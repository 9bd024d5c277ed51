"""Disputes in Chromium: wide and narrow, light and dark, for the customer and for staff."""

import os
import uuid
from pathlib import Path

import pytest
from django.urls import reverse

from accounts import people
from billing_portal.billing.disputes import cases
from tests import looks
from tests.billing.test_disputes import CALL, _no_settling_behind_the_back, opened, used  # noqa: F401 - fixtures
from tests.portal.test_changes_in_the_browser import opened as opened_page
from tests.support.conftest import desk  # noqa: F401 - fixture
from tests.support.test_in_the_browser import as_staff
from tests.usage.test_comparisons import COLUMNS, as_csv, as_rows, compared, ours, uploaded

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(("width", "theme"), [(1360, "light"), (400, "dark")])
def test_the_pages_are_sound(
    chromium,
    live_server,
    alice,
    used,  # noqa: F811
    now,
    desk,  # noqa: F811
    width,
    theme,
    monkeypatch,
    settings,
    tmp_path,
):

    monkeypatch.setattr("accounts.clock.now", lambda: now)
    settings.COMPARISONS_DIR = tmp_path
    theirs = {f"call_{number}": (60_000, 1) for number in (1, 2)} | dict(list(ours(used, 6).items())[2:])
    log = as_csv(as_rows({**theirs, "call_1_5": (1, 1)}.items())).encode()
    done, sent = compared(used, alice, now, log), uploaded(used, alice, now, log)
    assert COLUMNS.call_id in sent.header
    sam = people.admit(email="tess@desk.example", password="x", name="Tess Tern", is_staff=True)
    first, second, third = (opened(used, alice, now, reference=f"call_1_{number}") for number in (1, 2, 3))
    cases.write(second, text="Which agent?", by=sam, from_vendor=True, public_id=uuid.uuid4(), now=now)
    cases.grant(third, micros=third.claimed_micros, decision="The line was silent.", by=sam, now=now)
    new = f"{reverse('dispute_new', args=[used.public_id])}?kind=call&reference=call_1_4"
    page, complaints = opened_page(chromium, live_server.url, alice, width=width, theme=theme)
    pages = {
        "dispute-link": reverse("call", args=[used.public_id, CALL]),
        "disputes": reverse("disputes", args=[used.public_id]),
        "comparisons": reverse("comparisons", args=[used.public_id]),
        "comparison-columns": reverse("comparison", args=[used.public_id, sent.public_id]),
        "comparison": reverse("comparison", args=[used.public_id, done.public_id]),
        "dispute-new": new,
        **{f"dispute-{each.pk}": reverse("dispute", args=[used.public_id, each.public_id]) for each in (second, third)},
    }
    for name, url in pages.items():
        page.goto(url)
        look(page, f"{name}-{width}-{theme}")
        looks.assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") == width, name
    assert complaints == []
    staff = as_staff(chromium, desk, live_server.url, width=width, theme=theme).new_page()
    grant = reverse("staff_action", args=[used.public_id, "grant_dispute"])
    for name, url in {
        "staff-disputes": reverse("staff_disputes"),
        "staff-dispute": reverse("staff_dispute", args=[first.public_id]),
        "staff-grant": f"{grant}?dispute={first.public_id}&amount=0.05",
    }.items():
        answer = staff.goto(url, wait_until="networkidle")
        assert answer.status == 200, name
        look(staff, f"{name}-{width}-{theme}")
        assert staff.evaluate("document.documentElement.scrollWidth") == width, name


def look(page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
