"""Backfills on the desk: counted and looked at, let go ahead by a second person, read by the customer."""

import html
import uuid
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import Letter, Organization, User
from billing_portal.support import backfill_bars
from tests.support.conftest import SETTLED
from tests.support.test_desk import text_of
from tests.support.test_organization_desk import colleague  # noqa: F401 - a fixture
from usage.backfills import plans, work
from usage.models import Backfill, BackfillPart, CallRevision, PriceVersion


@pytest.fixture(autouse=True)
def _at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.clock.now", lambda: SETTLED)
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)


def asked(**changed: Any) -> dict[str, Any]:
    """Return the form as a member of staff fills it."""
    version = PriceVersion.objects.order_by("-id")[0]
    days = {"starts_on": "2026-08-01", "ends_on": "2026-08-05"}
    reason = "Language models were billed at last month's price"
    return {"version": version.pk, "organizations": "", "reason": reason, "key": str(uuid.uuid4()), **days, **changed}


def through() -> None:
    while work.go_on(now=SETTLED):
        pass


def test_it_is_asked_for_counted_approved_by_another_and_read_by_the_customer(
    desk: Client,
    colleague: Client,  # noqa: F811
    furnished: Organization,
    alice: User,
) -> None:
    form = asked()
    for _ in range(2):
        answer = desk.post(reverse("staff_backfills"), form)
        assert answer.url == reverse("staff_backfill", args=[form["key"]])
    made = Backfill.objects.get(public_id=form["key"])
    assert "Being counted" in text_of(desk.get(answer.url))
    through()
    text = text_of(desk.get(answer.url))
    assert "Nothing is changed yet" in text
    assert "somebody else has to decide" in text
    assert "Approve:" not in text
    part = made.parts.get()
    assert f"−{abs(part.net_micros) / 1_000_000:.2f}"[:4] in text
    assert "Price anew (2)" in text
    start = reverse("staff_backfill_start", args=[form["key"]])
    assert "You asked for this yourself" in text_of(desk.post(start, follow=True))
    assert CallRevision.objects.count() == 0
    assert "Approve:" in text_of(colleague.get(answer.url))
    assert "It goes ahead" in text_of(colleague.post(start, follow=True))
    assert "How far" in text_of(desk.get(answer.url))
    through()
    text = text_of(desk.get(answer.url))
    assert "Let go ahead by tess@desk.example" in text
    assert "Priced anew so far" in text
    assert CallRevision.objects.count() == part.cheaper > 0
    assert Letter.objects.filter(to="alice@acme.example", subject__endswith="priced anew").count() == 1
    customer = Client()
    customer.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    page = text_of(customer.get(reverse("usage", args=[furnished.public_id])))
    assert "priced anew" in page
    assert form["reason"] in html.unescape(page)


def test_cancelling_changes_nothing_and_needs_no_second_person(desk: Client, furnished: Organization) -> None:
    made = Backfill.objects.get()
    answer = desk.post(reverse("staff_backfill_cancel", args=[made.public_id]), follow=True)
    assert "Cancelled by sam@desk.example" in text_of(answer)
    assert CallRevision.objects.count() == 0
    again = desk.post(reverse("staff_backfill_start", args=[made.public_id]), follow=True)
    assert "It is cancelled" in text_of(again)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"organizations": "acme, nobody"}, "There is no organization nobody"),
        ({"ends_on": "2026-07-31"}, "Not before the first day"),
        ({"ends_on": "2026-12-31"}, "at most 92 days"),
        ({"ends_on": "2026-08-20"}, "not over yet"),
        ({"starts_on": "2026-05-01", "ends_on": "2026-05-02"}, "None of these organizations has a call"),
        ({"reason": ""}, "This field is required"),
    ],
)
def test_what_cannot_be_is_said_in_the_form(
    desk: Client, furnished: Organization, changed: dict[str, str], said: str
) -> None:
    assert said in text_of(desk.post(reverse("staff_backfills"), asked(**changed)))
    assert Backfill.objects.count() == 1


def test_staff_without_the_permission_neither_ask_nor_decide(desk: Client, furnished: Organization) -> None:
    sam = User.objects.get(email="sam@desk.example")
    sam.is_superuser = False
    sam.save()
    made = Backfill.objects.get()
    for name in ("start", "cancel"):
        assert desk.post(reverse(f"staff_backfill_{name}", args=[made.public_id])).status_code == 403
    assert desk.get(reverse("staff_backfills")).status_code == 403
    sam.user_permissions.add(Permission.objects.get(codename="view_backfill"))
    assert desk.get(reverse("staff_backfills")).status_code == 200
    assert desk.get(reverse("staff_backfill", args=[made.public_id])).status_code == 200
    assert desk.post(reverse("staff_backfills"), asked()).status_code == 403


def test_what_was_set_aside_is_said_and_can_be_tried_again(
    desk: Client,
    colleague: Client,  # noqa: F811
    furnished: Organization,
) -> None:
    made = Backfill.objects.get()
    page, start = (reverse(f"staff_backfill{rest}", args=[made.public_id]) for rest in ("", "_start"))
    colleague.post(start)
    BackfillPart.objects.update(attempts=plans.MOST_ATTEMPTS)
    assert "1 organization failed several times and was set aside" in text_of(desk.get(page))
    desk.post(start)
    through()
    assert Backfill.objects.get().state == "done"


def test_bars_share_a_scale_and_show_something_of_everything() -> None:
    parts = [BackfillPart(more_micros=more, less_micros=less) for more, less in ((400, 100), (0, 1), (0, 0))]
    assert [(each.less_left, each.less_width, each.more_width) for each in backfill_bars.of(parts)] == [
        ("37.50%", "12.50%", "50.00%"),
        ("49.50%", "0.50%", "0.00%"),
        ("50.00%", "0.00%", "0.00%"),
    ]
