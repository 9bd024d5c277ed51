"""The desk page of an organization: form, preview, confirmation; a second person; and what the customer then reads."""

import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts import clock, mfa, people
from accounts.models import Organization
from billing_portal.ledger import accounts, checks
from billing_portal.ledger.models import Grant, Transaction
from billing_portal.support import kinds
from billing_portal.support.models import StaffAction
from tests.conftest import PASSWORD
from tests.support.conftest import SETTLED
from tests.support.test_desk import text_of
from usage import completeness
from usage.completeness import Arrival


@pytest.fixture
def colleague(client: Client, db: None) -> Client:
    """Another member of the staff, past the second factor."""
    tess = people.admit(email="tess@desk.example", password=PASSWORD, name="Tess Tern", is_staff=True)
    tess.is_superuser = True
    tess.save()
    secret, colleague = mfa.new_secret(), Client()
    mfa.enroll_totp(tess, secret)
    answer = colleague.post("/accounts/login/", {"login": tess.email, "password": PASSWORD})
    colleague.post(answer.url, {"code": mfa.current_code(secret)})
    assert colleague.get("/staff/").status_code == 200
    return colleague


def page_of(organization: Organization) -> str:
    return reverse("staff_organization", args=[organization.public_id])


def action_of(organization: Organization, kind: str) -> str:
    return reverse("staff_action", args=[organization.public_id, kind])


def send(desk: Client, organization: Organization, kind: str, *, step: str, **fields: Any) -> Any:
    form = {"reason": "Outage on 12 October", "key": str(uuid.uuid4()), "step": step, **fields}
    return desk.post(action_of(organization, kind), form)


def test_the_page_shows_the_money_and_leads_to_every_action(desk: Client, furnished: Organization) -> None:
    answer = desk.get(page_of(furnished))
    text = text_of(answer)
    assert "Credit left" in text
    assert "Owed, not yet paid" in text
    html = answer.content.decode()
    for kind in ("goodwill", "correction", "forgive"):
        assert action_of(furnished, kind) in html
    assert page_of(furnished) in desk.get("/staff/find/?q=acme").content.decode()
    assert page_of(furnished) in desk.get(f"/staff/accounts/organization/{furnished.pk}/change/").content.decode()


@pytest.mark.parametrize("kind", sorted(kinds.ALL))
def test_every_action_opens_as_a_form(desk: Client, furnished: Organization, kind: str) -> None:
    assert desk.get(action_of(furnished, kind)).status_code == 200
    empty = desk.post(action_of(furnished, kind), {})
    assert empty.status_code == 200
    assert "This field is required" in text_of(empty)
    assert not StaffAction.objects.exists()


def test_a_preview_changes_nothing_and_its_confirmation_does_what_it_said(
    desk: Client, furnished: Organization
) -> None:
    given = Grant.objects.count()
    preview = send(desk, furnished, "goodwill", step="preview", amount="12.34")
    text = text_of(preview)
    assert "Nothing is changed yet" in text
    assert "12.34 USD" in text
    assert "“Outage on 12 October”" in text
    assert Grant.objects.count() == given
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', preview.content.decode()))
    assert set(form) >= {"amount", "reason", "key"}
    for _ in range(2):  # F27: a double click
        answer = desk.post(action_of(furnished, "goodwill"), {**form, "step": "confirm"})
        assert answer.url == page_of(furnished)
    grant = Grant.objects.get(kind="goodwill")
    assert (grant.amount_micros, grant.reason) == (12_340_000, "Outage on 12 October")
    assert "Give goodwill credit" in text_of(desk.get(page_of(furnished)))


def test_a_preview_can_be_gone_back_from_with_what_was_entered(desk: Client, furnished: Organization) -> None:
    answer = send(desk, furnished, "goodwill", step="edit", amount="12.34")
    html = answer.content.decode()
    assert 'value="12.34"' in html
    assert "Outage on 12 October" in html
    assert not StaffAction.objects.exists()


@pytest.mark.parametrize("amount", ["0", "-5", "0.001", "1e9", "NaN", "twelve", "", "99999999"])
def test_bad_amounts_are_form_errors_and_change_nothing(desk: Client, furnished: Organization, amount: str) -> None:
    answer = send(desk, furnished, "goodwill", step="confirm", amount=amount)
    assert answer.status_code == 200
    assert "errorlist" in answer.content.decode()
    assert not StaffAction.objects.exists()
    assert not Grant.objects.filter(kind="goodwill").exists()


def test_above_the_limit_a_second_person_approves(desk: Client, colleague: Client, furnished: Organization) -> None:
    assert "A second member of staff has to approve it" in text_of(
        send(desk, furnished, "goodwill", step="preview", amount="50.01")
    )
    send(desk, furnished, "goodwill", step="confirm", amount="50.01")
    waiting = StaffAction.objects.get()
    assert not Grant.objects.filter(kind="goodwill").exists()
    own = text_of(desk.get(reverse("staff_approval", args=[waiting.public_id])))
    assert "somebody else has to decide" in own
    refused = desk.post(reverse("staff_approve", args=[waiting.public_id]), follow=True)
    assert "You asked for this yourself" in text_of(refused)
    assert not Grant.objects.filter(kind="goodwill").exists()

    assert "Approvals (1)" in text_of(colleague.get("/staff/"))
    seen = text_of(colleague.get(reverse("staff_approval", args=[waiting.public_id])))
    assert "Approve: give goodwill credit" in seen
    for _ in range(2):
        colleague.post(reverse("staff_approve", args=[waiting.public_id]))
    assert Grant.objects.get(kind="goodwill").amount_micros == 50_010_000
    assert "tess@desk.example" in text_of(colleague.get(reverse("staff_approvals")))


def test_a_second_person_declines_with_a_reason(desk: Client, colleague: Client, furnished: Organization) -> None:
    send(desk, furnished, "goodwill", step="confirm", amount="60")
    waiting = StaffAction.objects.get()
    decline = reverse("staff_decline", args=[waiting.public_id])
    assert "This field is required" in text_of(colleague.post(decline, {}))
    colleague.post(decline, {"reason": "Forgive October instead"})
    waiting.refresh_from_db()
    assert (waiting.state, waiting.decision_reason) == ("declined", "Forgive October instead")
    assert "Forgive October instead" in text_of(desk.get(reverse("staff_approval", args=[waiting.public_id])))


def test_one_s_own_request_is_withdrawn(desk: Client, colleague: Client, furnished: Organization) -> None:
    send(desk, furnished, "goodwill", step="confirm", amount="60")
    waiting = StaffAction.objects.get()
    withdraw = reverse("staff_withdraw", args=[waiting.public_id])
    assert colleague.post(withdraw).status_code == 404
    desk.post(withdraw)
    waiting.refresh_from_db()
    assert waiting.state == "withdrawn"


def test_the_customer_reads_what_was_done_and_why(
    desk: Client, furnished: Organization, alice: Any, settings: Any
) -> None:
    send(desk, furnished, "goodwill", step="confirm", amount="5")
    grant = Grant.objects.get(kind="goodwill")
    send(desk, furnished, "take_back", step="confirm", grant=grant.pk, reason="It was given twice")
    customer = Client()
    customer.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    text = text_of(customer.get(reverse("credits", args=[furnished.public_id])))
    assert f"Outage on 12 October · by {settings.VENDOR_NAME}" in text
    assert f"It was given twice · by {settings.VENDOR_NAME}" in text
    assert "sam@desk.example" not in text


def test_a_frozen_account_is_shown_everywhere_and_thawed(desk: Client, furnished: Organization) -> None:
    Grant.objects.update(amount_micros=2_000_000)
    assert checks.check(furnished.pk, now=SETTLED) != []
    assert "1 frozen" in text_of(desk.get("/staff/"))
    assert "no money moves here" in text_of(desk.get(page_of(furnished)))
    refused = send(desk, furnished, "goodwill", step="confirm", amount="5")
    assert "is frozen" in text_of(refused)
    send(desk, furnished, "unfreeze", step="confirm", reason="Looked at it; a test row")
    assert "no money moves here" not in text_of(desk.get(page_of(furnished)))


def test_an_unknown_action_and_a_missing_organization_are_not_found(desk: Client, furnished: Organization) -> None:
    assert desk.get(action_of(furnished, "print_money")).status_code == 404
    assert desk.get(reverse("staff_organization", args=[uuid.uuid4()])).status_code == 404
    assert desk.get(reverse("staff_approval", args=[uuid.uuid4()])).status_code == 404
    assert desk.post(reverse("staff_approve", args=[uuid.uuid4()])).status_code == 404


def test_i16_a_foreign_grant_is_no_choice(
    desk: Client, furnished: Organization, make_organization: Callable[..., Organization]
) -> None:
    other = make_organization("other-desk")
    accounts.open(organization=other, now=furnished.created_at)
    foreign = Grant.objects.filter(organization=furnished).first()
    assert foreign is not None
    answer = send(desk, other, "take_back", step="confirm", grant=foreign.pk)
    assert "valid choice" in text_of(answer)
    assert not Transaction.objects.filter(kind="reverse").exists()


def test_staff_without_the_permission_are_kept_out(desk: Client, colleague: Client, furnished: Organization) -> None:
    send(desk, furnished, "goodwill", step="confirm", amount="60")
    waiting = StaffAction.objects.get()
    for person in people.User.objects.filter(email="tess@desk.example"):
        person.is_superuser = False
        person.save()
    assert colleague.get(page_of(furnished)).status_code == 403
    assert colleague.get(action_of(furnished, "goodwill")).status_code == 403
    assert colleague.post(action_of(furnished, "goodwill"), {}).status_code == 403
    for name in ("staff_approve", "staff_decline", "staff_withdraw"):
        assert colleague.post(reverse(name, args=[waiting.public_id])).status_code == 403
    assert colleague.get(reverse("staff_approvals")).status_code == 403


@pytest.mark.parametrize("name", ["staff_approve", "staff_decline", "staff_withdraw"])
def test_customers_and_strangers_reach_nothing(
    client: Client, desk: Client, furnished: Organization, alice: Any, name: str
) -> None:
    send(desk, furnished, "goodwill", step="confirm", amount="60")
    waiting = StaffAction.objects.get()
    customer = Client()
    customer.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    for visitor in (Client(), customer):
        assert visitor.post(reverse(name, args=[waiting.public_id])).status_code == 302
        assert visitor.get(page_of(furnished)).status_code == 302
        assert visitor.post(action_of(furnished, "goodwill"), {"amount": "5"}).status_code == 302
    waiting.refresh_from_db()
    assert waiting.state == "waiting"


# ── Missing numbers ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_numbers_that_were_no_calls_are_given_up(desk: Client, furnished: Organization) -> None:
    long_ago = clock.now() - timedelta(hours=1)
    completeness.note([Arrival(furnished.pk, "eu-1 a", n, long_ago) for n in (1, 2, 6, 9)], now=long_ago)
    page = desk.get(page_of(furnished))
    assert "5 missing" in text_of(page)
    link = re.search(rf'{action_of(furnished, "give_up_numbers")}\?gap=([^"]+)"', page.content.decode())
    assert link
    assert link[1] == "3-5-eu-1%20a"
    preview = send(desk, furnished, "give_up_numbers", step="preview", gap="3-5-eu-1 a")
    assert "3 of source eu-1 a" in text_of(preview)
    assert completeness.seal(furnished.pk, now=clock.now()).missing == 5
    assert send(desk, furnished, "give_up_numbers", step="confirm", gap="3-5-eu-1 a").status_code == 302
    assert completeness.seal(furnished.pk, now=clock.now()).missing == 2
    assert StaffAction.objects.get().params == {"source": "eu-1 a", "first": 3, "last": 5}


def test_numbers_that_arrived_meanwhile_are_not_given_up(desk: Client, furnished: Organization) -> None:
    long_ago = clock.now() - timedelta(hours=1)
    completeness.note([Arrival(furnished.pk, "eu-1", n, long_ago) for n in (1, 3)], now=long_ago)
    completeness.note([Arrival(furnished.pk, "eu-1", 2, long_ago)], now=clock.now())
    answer = send(desk, furnished, "give_up_numbers", step="preview", gap="2-2-eu-1")
    assert "Select a valid choice" in text_of(answer)
    assert not StaffAction.objects.exists()
